package daemon

import (
	"strings"
	"testing"
	"time"

	"proxyd/internal/event"
)

// Descriptors are news when one was wanted and none was free, when all are in use, and
// when nine tenths are, unless the limit of tunnels says so already.
func TestDescriptorsAreNewsWhenNoneIsFree(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tt := range map[string]struct {
		used   int
		known  bool
		failed time.Duration // ago; 0: never
		gave   time.Duration
		want   string
		of     event.Severity
	}{
		"plenty":             {used: 100},
		"unknown":            {},
		"nine tenths":        {used: 270, want: "few file descriptors are left: 270 of 300 in use | raise", of: event.Warn},
		"nine tenths, known": {used: 270, known: true},
		"all":                {used: 300, known: true, want: "out of file descriptors: 300 of 300 in use | raise", of: event.Error},
		"none was free":      {failed: time.Second, want: "out of file descriptors, 1 times none was free in 1 min | raise", of: event.Error},
		"none was free once": {used: 100, failed: 10 * time.Second},
		"closed for others":  {gave: time.Second, want: "1 connections that sent no request were closed to make room for others in 1 min | see which clients", of: event.Warn},
	} {
		s := &descriptors{limit: 300}
		if tt.failed > 0 {
			s.failed.add(now.Add(-tt.failed))
		}
		if tt.gave > 0 {
			s.gave.add(now.Add(-tt.gave))
		}
		list := s.findings(now, tt.used, tt.known)
		got := strings.Join(textsOf(list), "\n")
		if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" || len(list) > 0 && list[0].severity != tt.of {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
