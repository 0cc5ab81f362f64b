package upstream

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// proxies are fake SOCKS5 upstreams that lead any target to one echo server.
func proxies(t testing.TB, n int) (list []*testkit.Proxy) {
	t.Helper()
	echo := testkit.NewTCP(t, testkit.Echo)
	for range n {
		list = append(list, testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}}))
	}
	return list
}

// poolOf is a file with a pool of these proxies, called a, b, c ...; extra
// holds what else is written of each.
func poolOf(list []*testkit.Proxy, strategy string, extra ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "default: p\nattempt_seconds: 0.3\npools:\n  p:\n    strategy: %s\n    proxies:\n", strategy)
	for i, p := range list {
		fmt.Fprintf(&b, "      - {name: %c, url: %q", 'a'+i, p.URL())
		if i < len(extra) && extra[i] != "" {
			b.WriteString(", " + extra[i])
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// dials opens n ways, one after another, and gives the names of their members.
func dials(t testing.TB, p *Pool, n int) string {
	t.Helper()
	var b strings.Builder
	for range n {
		way, err := p.Dial(budget(t, testkit.Patience), venue)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(way.Member.Name())
		_ = way.Conn.Close()
		way.Release()
	}
	return b.String()
}

// The order of the first choices, exact where no chance is in it.
func TestOrder(t *testing.T) {
	tests := []struct {
		name, strategy string
		extra          []string
		want           string
	}{
		{"round robin", "round_robin", nil, "abcabcabc"},
		{"round robin by weight", "round_robin", []string{"weight: 5", "weight: 1", "weight: 1"}, "aabacaa" + "aabacaa"},
		{"round robin by weight of two", "round_robin", []string{"weight: 1", "weight: 2", "enabled: false"}, "babbab"},
		{"round robin without one", "round_robin", []string{"", "enabled: false", ""}, "acacac"},
		{"round robin in the lowest tier", "round_robin", []string{"tier: 2", "tier: 1", "tier: 1"}, "bcbcbc"},
		{"round robin in the lowest tier in use", "round_robin", []string{"tier: 1, enabled: false", "tier: 2", "tier: 3"}, "bbbb"},
		{"failover", "failover", nil, "aaaa"},
		{"failover, the first not in use", "failover", []string{"enabled: false", "", ""}, "bbbb"},
		{"failover by tier", "failover", []string{"tier: 3", "tier: 2", "tier: 2"}, "bbbb"},
		{"least connections, none open", "least_connections", nil, "abcabc"},
		{"random without choice", "random", []string{"enabled: false", "tier: 2", "enabled: true"}, "cccc"},
		{"random in the lowest tier in use", "random", []string{"enabled: false", "tier: 3", "tier: 2"}, "cccc"},
	}
	list := proxies(t, 3)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := only(t, load(t, poolOf(list, tt.strategy, tt.extra...), nil))
			if got := dials(t, p, len(tt.want)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Over each whole turn the shares are those of the weights, to the connection,
// and no member is chosen in a long row.
func TestRoundRobinShares(t *testing.T) {
	t.Run("whole", func(t *testing.T) { shares(t, []int{1, 7, 3, 100, 12}, 1) })
	t.Run("fractions", func(t *testing.T) { shares(t, []int{1, 5, 10, 15, 3}, 10) })
}

// shares holds a pool whose weights are parts of per.
func shares(t *testing.T, weights []int, per float64) {
	t.Helper()
	list := proxies(t, len(weights))
	var extra []string
	total := 0
	for _, w := range weights {
		extra, total = append(extra, fmt.Sprintf("weight: %.1f", float64(w)/per)), total+w
	}
	p := only(t, load(t, poolOf(list, "round_robin", extra...), nil))
	for turn := range 3 {
		got := make([]int, len(weights))
		for range total {
			got[pick(p, venue)]++
		}
		if fmt.Sprint(got) != fmt.Sprint(weights) {
			t.Errorf("turn %d: got %v, want %v", turn, got, weights)
		}
	}
}

// Random keeps to the weights too, within what chance allows: five standard
// deviations, which fail once in a million runs.
func TestRandomShares(t *testing.T) {
	weights := []int{1, 2, 3, 10}
	list := proxies(t, len(weights)+1)
	extra := []string{"weight: 1", "weight: 2", "weight: 3", "weight: 10", "enabled: false"}
	p := only(t, load(t, poolOf(list, "random", extra...), nil))
	const n = 40_000
	got := make([]int, len(list))
	for range n {
		got[pick(p, venue)]++
	}
	for i, w := range append(weights, 0) {
		share := float64(w) / 16
		if dev := 5 * math.Sqrt(n*share*(1-share)); math.Abs(float64(got[i])-n*share) > dev {
			t.Errorf("member %d of weight %d was chosen %d times of %d", i, w, got[i], n)
		}
	}
}

// The member with the fewest open connections for its weight is next.
func TestLeastConnections(t *testing.T) {
	list := proxies(t, 3)
	p := only(t, load(t, poolOf(list, "least_connections", "weight: 2", "weight: 1", "weight: 1"), nil))
	var held []*Conn
	hold := func(n int) (got string) {
		for range n {
			w := open(t, p, venue)
			held, got = append(held, w), got+w.Member.Name()
		}
		return got
	}
	got := hold(8)
	if a, b, c := strings.Count(got, "a"), strings.Count(got, "b"), strings.Count(got, "c"); a != 4 || b != 2 || c != 2 {
		t.Errorf("8 held connections went to %s", got)
	}
	for _, w := range held { // one who loses its connections gets the next ones
		if w.Member.Name() == "b" {
			w.Release()
		}
	}
	if got := hold(2); got != "bb" {
		t.Errorf("after b had lost its two the next went to %s", got)
	}
	for i := range p.Members() {
		u := p.Members()[i].Upstream
		if want := map[string]int64{"a": 4, "b": 2, "c": 2}[u.Name()]; u.Live() != want {
			t.Errorf("%s has %d, want %d", u.Name(), u.Live(), want)
		}
	}
}

// Choices of many at once lose none of the order.
func TestPickIsSafe(t *testing.T) {
	p := only(t, load(t, poolOf(proxies(t, 3), "round_robin", "weight: 1", "weight: 2", "weight: 3"), nil))
	got := make(chan int, 600)
	for range 10 {
		go func() { // ends after 60 choices, which are all collected below
			for range 60 {
				got <- pick(p, venue)
			}
		}()
	}
	var count [3]int
	for range cap(got) {
		count[<-got]++
	}
	if count != [3]int{100, 200, 300} {
		t.Errorf("got %v", count)
	}
}
