package upstream

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// PoolStatus is a pool at one moment.
type PoolStatus struct {
	Name    string         `json:"name"`
	Members []MemberStatus `json:"members"` // in the order of the file
}

// MemberStatus is a membership, and what may be done with it now.
type MemberStatus struct {
	Upstream string  `json:"upstream"`
	Weight   float64 `json:"weight"`
	Tier     int     `json:"tier"`
	Standing string  `json:"standing"` // usable, degraded, avoided, never or disabled
}

// Standings says for a target what may be done with each member now, in the order
// of the file: usable, degraded (slow: after the others of its tier), avoided (ejected, or a bad verdict: only when no usable
// one is left), never (drained, rate limited, or over a budget) or disabled.
func (p *Pool) Standings(t Target) PoolStatus {
	l := selection{shared: p.set.shared, target: &t}
	s := PoolStatus{Name: p.name}
	for i := range p.members {
		m := &p.members[i]
		word := "disabled"
		if m.Enabled {
			at, _ := l.at(m.state)
			if at <= degraded && p.exhausted(i, &l) {
				at = never
			}
			word = [...]string{usable: "usable", degraded: "degraded", avoided: "avoided", never: "never"}[at]
		}
		s.Members = append(s.Members, MemberStatus{m.name, m.Weight, m.Tier, word})
	}
	return s
}

// The first few members that cannot be used have among them one that is drained and
// one that is tried all the same, wherever they stand.
func TestUnavailableNamesADrainAndWhatIsTriedFirst(t *testing.T) {
	t.Parallel()
	s := load(t, poolOfMany(12, "failover"), nil)
	for _, u := range s.Upstreams() {
		u.SetVerdict("okx", kindHTTP, Verdict{Word: WordRateLimited, Until: time.Now().Add(time.Hour)})
	}
	s.Upstream("m10").SetVerdict("okx", kindHTTP, Verdict{Word: WordBlocked})
	s.Upstream("m11").SetDrained("okx", true)
	var got []string
	for _, u := range only(t, s).Unavailable("okx", kindHTTP) {
		got = append(got, fmt.Sprint(u.Upstream, " ", u.Why, " ", u.Tried))
	}
	want := "m11 drained for okx false, m10 blocked true, m0 rate_limited false, m1 rate_limited false, m2 rate_limited false"
	if text := strings.Join(got, ", "); text != want {
		t.Errorf("%s, want %s", text, want)
	}
}
