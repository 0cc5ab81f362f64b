package health

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/router"
)

// reloading puts another snapshot of the same text in force whenever d has passed.
func (b *bench) reloading(t *testing.T, text string, d time.Duration) {
	t.Helper()
	both := [2]*router.Router{snapshot(t, text), snapshot(t, text)}
	var last time.Time
	n := 0
	b.known = func(Pair) Known { // called often, by the loop alone
		if now := time.Now(); now.Sub(last) >= d {
			last = now
			n++
			b.mu.Lock()
			b.router = both[n%2]
			b.mu.Unlock()
		}
		return Known{}
	}
}

// TestReloadDoesNotProbe: however often a file is saved, each pair is asked
// at its interval, and what wants to be left alone is.
func TestReloadDoesNotProbe(t *testing.T) {
	text := strings.Replace(fmt.Sprintf(asia, "exchange"), "interval_seconds: 30", "interval_seconds: 300", 1)
	for name, tt := range map[string]struct {
		found Result
		most  int
	}{
		"all is well":          {Result{Verdict: OK}, 5}, // the first, and one each 240 to 300 s
		"trouble until a time": {Result{Verdict: Unknown}, 2},
		"slow: mostly running": {Result{Verdict: OK, Took: 2 * time.Second}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bench{takes: tt.found.Took}
			b.find = func(Pair, Method) Result {
				r := tt.found
				if r.Verdict == Unknown {
					r.Until = time.Now().Add(10 * time.Minute)
				}
				return r
			}
			b.reloading(t, text, 3*time.Second)
			b.run(t, text, 15*time.Minute)
			if len(b.started) == 0 {
				t.Fatal("nothing was asked")
			}
			for what, at := range b.started {
				if len(at) > tt.most {
					t.Errorf("%s: asked %d times, at %v", what, len(at), at)
				}
			}
		})
	}
}

// TestShorterInterval: one that a reload makes shorter holds from then on.
func TestShorterInterval(t *testing.T) {
	text := fmt.Sprintf(asia, "exchange")
	b := &bench{}
	start := time.Time{}
	b.known = func(Pair) Known {
		if start.IsZero() {
			start = time.Now()
		}
		if time.Since(start) == 20*time.Second || b.router.Config().Pools[0].Health.Interval == time.Hour && time.Since(start) > 20*time.Second {
			next := snapshot(t, text)
			b.mu.Lock()
			b.router = next
			b.mu.Unlock()
		}
		return Known{}
	}
	b.run(t, strings.Replace(text, "interval_seconds: 30", "interval_seconds: 3600", 1), 2*time.Minute)
	at := b.started["a binance http exchange"]
	if len(at) < 4 || at[1] > 40*time.Second {
		t.Errorf("asked at %v", at)
	}
}

// TestReloadKeepsBans: nor does a shorter interval make it ask one that wants to
// be left alone.
func TestReloadKeepsBans(t *testing.T) {
	text := strings.Replace(fmt.Sprintf(asia, "exchange"), "interval_seconds: 30", "interval_seconds: 3600", 1)
	shorter := snapshot(t, fmt.Sprintf(asia, "exchange"))
	b := &bench{}
	b.find = func(Pair, Method) Result {
		b.router = shorter
		return Result{Verdict: Unknown, Until: time.Now().Add(10 * time.Minute)}
	}
	b.run(t, text, 5*time.Minute)
	if len(b.started) == 0 {
		t.Fatal("nothing was asked")
	}
	for what, at := range b.started {
		if len(at) > 1 {
			t.Errorf("%s: asked at %v", what, at)
		}
	}
}

// TestMemberInTwoPoolsIsProbedOnce: a member in two pools is asked whether it accepts as often as
// the one that wants it most.
func TestMemberInTwoPoolsIsProbedOnce(t *testing.T) {
	pool := func(interval int) string {
		return fmt.Sprintf("{proxies: [{name: a, url: 'http://a.example:1'}], health_check: {method: tcp, interval_seconds: %d}}", interval)
	}
	for _, every := range [][2]int{{60, 10}, {10, 60}} {
		b := &bench{}
		b.run(t, "pools: {p: "+pool(every[0])+", q: "+pool(every[1])+"}\nexchanges: {binance: p, kraken: q}\n", time.Minute)
		if at := b.started["a   tcp"]; len(b.started) != 1 || len(at) < 5 || len(at) > 9 {
			t.Errorf("%v: asked %v", every, b.started)
		}
	}
}

// TestUnusedMembersAreNotProbed: neither a pool that nothing leads to nor a member
// that is drained, or disabled; hops are in use where what lies behind them is.
func TestUnusedMembersAreNotProbed(t *testing.T) {
	const check = "health_check: {method: exchange, interval_seconds: 10}"
	text := `
pools:
  used: {proxies: [{name: a, url: 'http://a.example:1', via: hop}, {name: drained, url: 'http://b.example:1'}, {name: here, url: 'http://c.example:1'}], ` + check + `}
  hop: {proxies: [{name: h, url: 'http://h.example:1'}], ` + check + `}
  spare: {proxies: [{name: s, url: 'http://s.example:1', via: far}], ` + check + `}
  far: {proxies: [{name: f, url: 'http://f.example:1'}], ` + check + `}
exchanges: {binance: {http: used}, kraken: {http: used}}
default: direct
`
	b := &bench{}
	b.known = func(p Pair) Known {
		p.Member.SetDrained("", p.Member.Name() == "drained")
		p.Member.SetDrained("kraken", p.Member.Name() == "here")
		return Known{Ejected: slices.Contains([]string{"drained", "s", "f"}, p.Member.Name()), Back: time.Now()} // these would like to come back, too
	}
	b.run(t, text, time.Minute)
	for what := range b.started {
		name := strings.Fields(what)[0]
		if !slices.Contains([]string{"a", "h", "here", "direct"}, name) || strings.HasPrefix(what, "here kraken") {
			t.Errorf("asked: %s", what)
		}
	}
	for _, what := range []string{"a binance http exchange", "here binance http exchange", "h   tcp"} {
		if len(b.started[what]) < 4 {
			t.Errorf("%s: asked at %v", what, b.started[what])
		}
	}
}

// TestDeadMembersDoNotDelayOthers: however many are out of use and silent, those
// that are in use are asked at their interval, and the others still come back.
func TestDeadMembersDoNotDelayOthers(t *testing.T) {
	t.Parallel()
	var dead strings.Builder
	for i := range 100 {
		fmt.Fprintf(&dead, ", {name: dead-%d, url: 'http://d%d.example:1'}", i, i)
	}
	var start time.Time
	b := &bench{}
	b.known = func(p Pair) Known {
		if start.IsZero() {
			start = time.Now()
		}
		out := strings.HasPrefix(p.Member.Name(), "dead") && (p.Member.Name() != "dead-7" || time.Since(start) < 5*time.Minute)
		return Known{Ejected: out, Back: start.Add(time.Hour)}
	}
	b.lasts = func(p Pair) time.Duration {
		if strings.HasPrefix(p.Member.Name(), "dead") {
			return 5 * time.Second
		}
		return 10 * time.Millisecond
	}
	b.run(t, "pools: {p: {proxies: [{name: good, url: 'http://a.example:1'}"+dead.String()+"], health_check: {method: exchange, interval_seconds: 30}}}\nexchanges: {binance: p}\n", 10*time.Minute)
	at := b.started["good binance http exchange"]
	for i := range at[1:] {
		if gap := at[i+1] - at[i]; gap > 32*time.Second {
			t.Errorf("not asked for %v, the interval is 30 s", gap)
		}
	}
	if back := b.started["dead-7 binance http exchange"]; len(at) < 15 || len(back) < 5 || back[0] < 5*time.Minute || back[0] > 5*time.Minute+3*time.Second {
		t.Errorf("asked at %v; the one that is back at %v", at, back)
	}
}

// TestReturnThroughAnotherExchange: one exchange that is down, or limits the
// exit, keeps no member out that others can be reached through.
func TestReturnThroughAnotherExchange(t *testing.T) {
	for name, found := range map[string]Result{
		"undecided": {Verdict: Verdict(failure.TargetUnreachable), Unsure: true},
		"silence":   {Verdict: Verdict(failure.TargetTimeout), Unsure: true},
		"limited":   {},
	} {
		t.Run(name, func(t *testing.T) {
			good := 0
			var start time.Time
			b := &bench{}
			b.known = func(p Pair) (k Known) {
				if start.IsZero() {
					start = time.Now()
				}
				k = Known{Ejected: p.Member.Name() == "a" && good < 2, Back: start.Add(5 * time.Second)}
				if found.Verdict == "" && p.Exchange == "binance" && time.Since(start) > 3*time.Second {
					k.Until = start.Add(24 * time.Hour)
				}
				return k
			}
			b.find = func(p Pair, _ Method) Result {
				if p.Exchange == "binance" {
					return found
				}
				good++
				return Result{Verdict: OK}
			}
			b.run(t, "pools: {p: {proxies: [{name: a, url: 'http://a.example:1'}, {name: b, url: 'http://b.example:1'}]}}\nexchanges: {binance: {websocket: p}, kraken: {websocket: p}}\n", time.Minute)
			if n := len(b.started["a binance websocket connect"]); good != 2 || n > 1 {
				t.Errorf("asked %v", b.started)
			}
			for what, all := range b.observed {
				for _, r := range all {
					if r.Verdict != OK {
						t.Errorf("observed of %s: %+v", what, r)
					}
				}
			}
		})
	}
}

// TestReturnUndecidedAfterThreeExchanges: when the third exchange leaves it open
// too, the result for the member is undecided; it is not postponed for ever.
func TestReturnUndecidedAfterThreeExchanges(t *testing.T) {
	b := &bench{}
	b.known = func(p Pair) Known { return Known{Ejected: p.Member.Name() == "a"} }
	b.find = func(Pair, Method) Result {
		return Result{Verdict: Verdict(failure.TargetUnreachable), Unsure: true}
	}
	b.run(t, "pools: {p: {proxies: [{name: a, url: 'http://a.example:1'}, {name: b, url: 'http://b.example:1'}]}}\n"+
		"exchanges: {binance: {http: p}, bybit: {http: p}, kraken: {http: p}, kucoin: {http: p}, okx: {http: p}}\n", time.Minute)
	asked, said := 0, 0
	for _, at := range b.started {
		asked += len(at)
	}
	for _, all := range b.observed {
		said += len(all)
	}
	if asked < 30 || said < asked/maxTried-1 || said > asked/maxTried {
		t.Errorf("asked %d times, reported undecided %d times: %v", asked, said, b.observed)
	}
}

// TestFailureBlamedOnMemberWhenOthersSucceed: that another member does counts as long as it is news, and
// traffic through it counts as a probe does.
func TestFailureBlamedOnMemberWhenOthersSucceed(t *testing.T) {
	for _, c := range []struct {
		name   string
		does   time.Duration // how long the other one does
		opened bool          // by traffic
		unsure bool
	}{
		{"the other one does by traffic", time.Hour, true, false},
		{"the other one did long ago", time.Minute, false, true},
		{"the other one's traffic ended long ago", time.Minute, true, true},
	} {
		var start time.Time
		b := &bench{}
		b.known = func(p Pair) (k Known) {
			if start.IsZero() {
				start = time.Now()
			}
			if c.opened && p.Member.Name() == "b" {
				k.Opened = start.Add(min(time.Since(start), c.does))
			}
			return k
		}
		b.find = func(p Pair, _ Method) Result {
			if p.Member.Name() == "b" && !c.opened && time.Since(start) < c.does {
				return Result{Verdict: OK}
			}
			return Result{Verdict: Verdict(failure.TargetTimeout), Unsure: true}
		}
		b.run(t, fmt.Sprintf(asia, "connect"), 5*time.Minute)
		all := b.observed["a binance http connect"]
		if last := all[len(all)-1]; last.Unsure != c.unsure {
			t.Errorf("%s: %+v", c.name, last)
		}
	}
}
