package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// sample is a line of /metrics.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

var (
	sampleLine  = regexp.MustCompile(`^(\w+)(?:\{(.*)\})? (\S+)$`)
	sampleLabel = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// scrape parses /metrics.
func scrape(t testing.TB, text string) (list []sample) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		s := sample{name: m[1], labels: map[string]string{}}
		for _, l := range sampleLabel.FindAllStringSubmatch(m[2], -1) {
			s.labels[l[1]] = l[2]
		}
		var err error
		if s.value, err = strconv.ParseFloat(m[3], 64); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, s)
	}
	return list
}

// sumOf adds up the samples of a name with these labels, given by turns as label
// and value.
func sumOf(list []sample, name string, labels ...string) (sum int64) {
next:
	for _, s := range list {
		if s.name != name {
			continue
		}
		for i := 0; i < len(labels); i += 2 {
			if s.labels[labels[i]] != labels[i+1] {
				continue next
			}
		}
		sum += int64(s.value)
	}
	return sum
}
