package upstream

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/failure"
)

// What may be done with each member for a target.
func TestStandings(t *testing.T) {
	s := load(t, poolOf(proxies(t, 5), "round_robin", "tier: 2", "weight: 3", "", "enabled: false", ""), nil)
	s.Upstream("b").recordUpstreamError(failure.UpstreamRefused, 1)
	s.Upstream("c").SetVerdict("binance", kindHTTP, Verdict{Word: WordBlocked})
	s.Upstream("e").SetDrained("", true)
	want := PoolStatus{"p", []MemberStatus{
		{"a", 1, 2, "usable"}, {"b", 3, 1, "avoided"}, {"c", 1, 1, "avoided"}, {"d", 1, 1, "disabled"}, {"e", 1, 1, "never"},
	}}
	if d := cmp.Diff(want, only(t, s).Standings(on("binance", kindHTTP))); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
}
