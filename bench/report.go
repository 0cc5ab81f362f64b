//go:build linux

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// results are all measurements by workload, candidate and name.
type results map[string]map[string]map[string][]float64

func (r results) add(work, name string, f measurements) {
	if r[work] == nil {
		r[work] = map[string]map[string][]float64{}
	}
	if r[work][name] == nil {
		r[work][name] = map[string][]float64{}
	}
	for k, v := range f {
		r[work][name][k] = append(r[work][name][k], v)
	}
}

// markdown returns one table per workload: medians, a line for each candidate.
func (r results) markdown(works []string, list []candidate) string {
	var b strings.Builder
	for _, w := range works {
		names := map[string]bool{}
		for _, f := range r[w] {
			for k := range f {
				names[k] = true
			}
		}
		columns := slices.Sorted(maps.Keys(names))
		fmt.Fprintf(&b, "\n**%s**\n\n| candidate | %s |\n|---|%s\n", w, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
		for _, c := range list {
			f := r[w][c.name]
			if len(f) == 0 {
				continue
			}
			fmt.Fprintf(&b, "| %s |", c.name)
			for _, k := range columns {
				fmt.Fprintf(&b, " %s |", median(f[k]))
			}
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

func median(v []float64) string {
	if len(v) == 0 {
		return "–"
	}
	slices.Sort(v)
	m := v[len(v)/2]
	switch {
	case m >= 100:
		return strconv.FormatFloat(m, 'f', 0, 64)
	case m >= 10:
		return strconv.FormatFloat(m, 'f', 1, 64)
	}
	return strconv.FormatFloat(m, 'f', 2, 64)
}
