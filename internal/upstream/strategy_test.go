package upstream

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
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

// patient returns a configuration of poolOf in which no attempt is cut short because
// the machine is busy.
func patient(text string) string {
	return strings.Replace(text, "attempt_seconds: 0.3", "attempt_seconds: 10", 1)
}

// dials opens n connections, one after another, and returns the names of their members.
func dials(t testing.TB, p *Pool, n int) string {
	t.Helper()
	var b strings.Builder
	for range n {
		conn, err := p.Dial(budget(t, testkit.Patience), venue)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(conn.Member.Name())
		_ = conn.Conn.Close()
		conn.Release()
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

// Concurrent choices keep the order.
func TestPickConcurrently(t *testing.T) {
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

// near fails the test when a count is further from its expectation than chance
// allows: five standard deviations, which fail once in a million runs.
func near(t testing.TB, what string, got, n int, share float64) {
	t.Helper()
	if dev := 5*math.Sqrt(float64(n)*share*(1-share)) + 1e-9; math.Abs(float64(got)-float64(n)*share) > dev {
		t.Errorf("%s: %d of %d, want %.1f ± %.1f", what, got, n, float64(n)*share, dev)
	}
}

// many are n hosts of no exchange.
func many(n int) (list []Target) {
	for i := range n {
		list = append(list, Target{Host: fmt.Sprintf("h%d.example", i), Port: 443, Kind: catalog.KindHTTP})
	}
	return list
}

// Each member has its weight's share of the keys.
func TestHashShares(t *testing.T) {
	p := only(t, load(t, poolOfMany(7, "hash"), nil)) // weights 1 to 7
	const n = 28_000
	got := make([]int, 7)
	for _, to := range many(n) {
		got[pick(p, to)]++
	}
	for i, c := range got {
		near(t, fmt.Sprintf("weight %d", i+1), c, n, float64(i+1)/28)
	}
}

// When a member goes, its keys move and no others; and they come back with it.
func TestHashMovesLittle(t *testing.T) {
	s := load(t, poolOfMany(7, "hash"), nil)
	p, targets := only(t, s), many(2000)
	before := make([]int, len(targets))
	for i, to := range targets {
		before[i] = pick(p, to)
	}
	check := func(p *Pool, gone int, moved string) {
		t.Helper()
		for i, to := range targets {
			switch now := pick(p, to); {
			case before[i] != gone && now != before[i]:
				t.Fatalf("%s moved a key of another member", moved)
			case gone >= 0 && now == gone:
				t.Fatalf("%s is still chosen", moved)
			}
		}
	}
	s.Upstream("m3").recordUpstreamError(failure.UpstreamRefused, 1)
	check(p, 3, "an ejection")
	stopped(s).pass(time.Hour)
	rejoin(t, s.Upstream("m3"))
	check(p, -1, "the return")
	check(only(t, load(t, strings.Replace(poolOfMany(7, "hash"), "weight: 4}", "weight: 4, enabled: false}", 1), nil)), 3, "another process without it")
}

// Over exchange both kinds and all hosts keep one exit, over host each host does.
func TestHashOver(t *testing.T) {
	for over, together := range map[string]bool{"exchange": true, "host": false} {
		p := only(t, load(t, poolOfMany(50, "hash")+"    hash_over: "+over+"\n", nil))
		exits := map[int]bool{}
		for i := range 20 {
			exits[pick(p, Target{Host: fmt.Sprintf("h%d.example", i), Exchange: "binance", Kind: catalog.Kind(1 + i%2)})] = true
		}
		if len(exits) == 1 != together {
			t.Errorf("over %s: %d exits", over, len(exits))
		}
	}
	p := only(t, load(t, poolOfMany(50, "hash"), nil))
	a, b := pick(p, Target{Host: "one.example"}), pick(p, Target{Host: "another.example"})
	if a == b {
		t.Error("hosts of no exchange all go one conn")
	}
}

// The shortcut past most logarithms changes no choice; and the ranking after a
// failure begins with the choice.
func TestRendezvousIsExact(t *testing.T) {
	p := only(t, load(t, poolOfMany(60, "hash"), nil))
	for _, to := range many(500) {
		key, best := p.hashKey(&to), 0
		for i := range p.slots {
			if p.score(i, key) < p.score(best, key) {
				best = i
			}
		}
		if got := pick(p, to); got != best {
			t.Fatalf("%s goes to %d, want %d", to.Host, got, best)
		}
		l := selection{shared: p.set.shared, target: &to}
		order, _ := p.fallbackOrder(best, &l)
		if len(order) != 59 || p.score(order[0], key) > p.score(order[58], key) {
			t.Fatalf("the rest: %v", order)
		}
	}
}

// timing sets how many ms dials to the target take through each member.
func timing(p *Pool, to Target, ms ...int) {
	for i, d := range ms {
		p.members[i].opened(&to, time.Duration(d)*time.Millisecond, p.set.shared.now())
	}
}

// Of two at random the quicker one is taken: of n clearly different ones the k-th
// has 2(n-k)/(n(n-1)) of the choices.
func TestLowestLatencyShares(t *testing.T) {
	to := on("binance", feedKind)
	const n = 40_000
	tests := []struct {
		name string
		ms   []int
		want []float64
	}{
		{"two", []int{100, 50}, []float64{0, 1}},
		{"four", []int{100, 50, 400, 200}, []float64{2. / 6, 3. / 6, 0, 1. / 6}},
		{"nearly the same", []int{100, 101, 110, 120}, []float64{.25, .25, .25, .25}},
		{"a few ms", []int{1, 2, 3}, []float64{1. / 3, 1. / 3, 1. / 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := load(t, poolOfMany(len(tt.ms), "lowest_latency"), nil)
			stopped(s)
			p := only(t, s)
			timing(p, to, tt.ms...)
			timing(p, on("kraken", feedKind), 1, 2000) // another exchange's times say nothing
			got := make([]int, len(tt.ms))
			for range n {
				got[pick(p, to)]++
			}
			for i, c := range got {
				near(t, fmt.Sprintf("member %d", i), c, n, tt.want[i])
			}
		})
	}
}

// A member of which nothing is known, or nothing new, gets one connection.
func TestLowestLatencyMeasuresAgain(t *testing.T) {
	to := on("binance", feedKind)
	s := load(t, poolOfMany(3, "lowest_latency"), nil)
	c, p := stopped(s), only(t, s)
	timing(p, to, 10, 20)
	count := func() (n [3]int) {
		for range 300 {
			n[pick(p, to)]++
		}
		return n
	}
	if n := count(); n[2] != 1 {
		t.Errorf("the unknown one was chosen %d times of 300", n[2])
	}
	p.members[2].opened(&to, time.Millisecond, c.at)
	if n := count(); n[2] < 150 {
		t.Errorf("the quickest one was chosen %d times of 300", n[2])
	}
	c.pass(2 * time.Minute)
	timing(p, to, 10)
	p.members[2].opened(&to, time.Millisecond, c.at)
	if n := count(); n[1] != 1 {
		t.Errorf("the one with an old time was chosen %d times of 300", n[1])
	}
}

// The average follows, and one slow dial does not turn it over.
func TestMovingAverage(t *testing.T) {
	s := load(t, poolOfMany(1, "lowest_latency"), nil)
	to, u := on("binance", feedKind), s.Upstream("m0")
	for _, step := range []struct{ took, want time.Duration }{{100, 100}, {100, 100}, {300, 150}, {150, 150}, {50, 125}} {
		u.opened(&to, step.took*time.Millisecond, time.Now())
		if got := time.Duration(u.known("binance", feedKind).latency.Load()); got != step.want*time.Millisecond {
			t.Errorf("after %d ms it is %v, want %d ms", step.took, got, step.want)
		}
	}
	seen := func(exchange string) bool { opened, _ := u.LastSeen(exchange, feedKind); return !opened.IsZero() }
	if u.known("kraken", feedKind) != nil || !seen("binance") || seen("kraken") {
		t.Error("what is known of one exchange is not known of another")
	}
}

// What is being opened counts: a burst does not all go to the emptiest member.
func TestLeastConnectionsCountsDials(t *testing.T) {
	p := only(t, load(t, poolOfMany(3, "least_connections"), nil)) // weights 1, 2, 3
	got := make([]int, 3)
	for range 60 {
		i := pick(p, venue)
		p.members[i].state.dialling.Add(1)
		got[i]++
	}
	if fmt.Sprint(got) != "[10 20 30]" {
		t.Errorf("60 at once went %v", got)
	}
}

// Shares stay exact over those that are usable, and nothing races.
func TestPickWhileStandingsChange(t *testing.T) {
	for _, strategy := range strategies {
		t.Run(strategy, func(t *testing.T) {
			s := load(t, poolOfMany(20, strategy), nil)
			p := only(t, s)
			stop := make(chan struct{})
			var all sync.WaitGroup
			all.Go(func() { // ends when the choices are done
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					u := p.members[1+i%19].Upstream // the first one is always well
					u.recordUpstreamError(failure.UpstreamRefused, 1)
					u.SetVerdict("binance", feedKind, Verdict{Word: WordGeoblocked, Until: time.Now().Add(time.Millisecond)})
					u.SetDrained("kraken", i%2 == 0)
					u.count(&Target{Exchange: "binance", Kind: feedKind}, func() {})()
					u.clearAuthFailure()
					_ = u.Status()
					_ = s.Export()
				}
			})
			var pickers sync.WaitGroup
			for range 4 {
				pickers.Go(func() { // ends after so many choices
					for i := range 2000 {
						if at := pick(p, on([]string{"binance", "kraken"}[i%2], feedKind)); at < 0 {
							t.Error("no member is usable")
							return
						}
					}
				})
			}
			pickers.Wait()
			close(stop)
			all.Wait()
		})
	}
}

// A drained or ejected member is not chosen any more from the moment on when that
// was said.
func TestStandingsTakeEffectAtOnce(t *testing.T) {
	s := load(t, poolOfMany(4, "round_robin"), nil)
	p, u := only(t, s), s.Upstream("m3")
	for i := range 200 {
		u.SetDrained("", i%2 == 0)
		seen := false
		for range 10 {
			seen = seen || pick(p, venue) == 3
		}
		if seen == (i%2 == 0) {
			t.Fatalf("round %d: chosen %v", i, seen)
		}
	}
}

// Choosing among a hundred members allocates nothing, whatever is remembered of them.
func TestPickAllocatesNothing(t *testing.T) {
	for _, strategy := range strategies {
		s := load(t, poolOfMany(100, strategy), nil)
		p, to := only(t, s), on("binance", feedKind)
		for i := range p.members {
			p.members[i].SetVerdict("binance", feedKind, Verdict{Word: []Word{WordOK, WordGeoblocked}[i%2], Until: time.Now().Add(time.Hour)})
			p.members[i].opened(&to, time.Duration(i)*time.Millisecond, time.Now())
		}
		if n := testing.AllocsPerRun(1000, func() { pick(p, to) }); n != 0 {
			t.Errorf("%s: %v allocations", strategy, n)
		}
	}
}
