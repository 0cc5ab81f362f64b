//go:build unix

package e2e

import (
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// The next process knows what this one has used, and what stays open there.
func TestBudgetsSurviveAnUpgrade(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"tunnels move": {"--move"}, "tunnels stay": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			echo := testkit.NewTCP(t, testkit.Echo)
			s := startService(t, "pools: {p: {proxies: [direct]}}\n"+
				"exchanges: {venue: {hosts: {http: [localhost]}, http: {pool: p, limits: {connects: 6/1h, max_connections: 3}}}}\n")
			target := "localhost:" + testkit.Port(echo.Addr)
			full := func(sentence string) {
				t.Helper()
				_, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
				if reply.Status != 503 || !strings.HasPrefix(reply.Body, sentence) {
					t.Errorf("%v\nwant %s", reply, sentence)
				}
			}
			first, second := s.tunnel(t, target), s.tunnel(t, target)
			_ = s.tunnel(t, target).Close() // counts, and is open no more
			testkit.Eventually(t, testkit.Patience, "its end is known", func() bool { return strings.Contains(s.Log.String(), `"msg":"tunnel",`) })
			for range 2 {
				s.upgrade(t, 0, args...)
			}
			third := s.tunnel(t, target)
			full("budget venue via direct: 3 of 3 connections are open (http)")
			for _, c := range []*testkit.Conn{first, second} {
				works(c)
				_ = c.Close()
			}
			testkit.Eventually(t, testkit.Patience, "room for another", func() bool {
				c, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
				_ = c.Close()
				return reply.OK
			})
			testkit.Eventually(t, testkit.Patience, "room for the last", func() bool {
				c, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
				_ = c.Close()
				return reply.OK
			})
			works(third)
			full("budget venue via direct: 0 of 6 per 1 h (http)")
		})
	}
}
