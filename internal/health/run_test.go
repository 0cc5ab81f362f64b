package health

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// bench runs the loop in a bubble of fake time, with probes that take and find
// what a test says.
type bench struct {
	mu       sync.Mutex
	router   *router.Router
	known    func(Pair) Known
	find     func(Pair, Method) Result
	takes    time.Duration
	lasts    func(Pair) time.Duration   // instead of takes
	soon     time.Duration              // when a is to be probed soon; 0: never
	started  map[string][]time.Duration // since the start, by what was asked
	observed map[string][]Result
	now, max int // probes at the same time
	looks    int // of the loop, at what is to be done
}

func what(p Pair, m Method) string {
	return fmt.Sprintf("%s %s %s %s", p.Member.Name(), p.Exchange, p.Kind, m)
}

// run lets the loop run for d.
func (b *bench) run(t *testing.T, text string, d time.Duration) {
	t.Helper()
	r := snapshot(t, text)
	synctest.Test(t, func(t *testing.T) {
		b.router, b.started, b.observed = r, map[string][]time.Duration{}, map[string][]Result{}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		soon := make(chan []string, 1)
		if b.soon > 0 {
			time.AfterFunc(b.soon, func() { soon <- []string{"a"} })
		}
		err := Run(ctx, Options{
			Soon: soon,
			Router: func() *router.Router {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.looks++
				return b.router
			},
			Known: func(p Pair) Known {
				if b.known == nil {
					return Known{}
				}
				return b.known(p)
			},
			Observe: func(p Pair, r Result) { b.observed[what(p, r.Method)] = append(b.observed[what(p, r.Method)], r) },
			probe: func(ctx context.Context, _ *upstream.Set, p Pair, m Method) Result {
				b.mu.Lock()
				b.started[what(p, m)] = append(b.started[what(p, m)], time.Since(start))
				b.now++
				b.max = max(b.max, b.now)
				b.mu.Unlock()
				takes := b.takes
				if b.lasts != nil {
					takes = b.lasts(p)
				}
				select {
				case <-time.After(takes):
				case <-ctx.Done():
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				b.now--
				r := Result{Verdict: OK}
				if b.find != nil {
					r = b.find(p, m)
				}
				r.Method = m
				if r.Took == 0 {
					r.Took = takes
				}
				return r
			},
		})
		if err != nil {
			t.Error(err)
		}
	})
}

const asia = `
pools:
  asia:
    proxies: [{name: a, url: "socks5://a.example:1080"}, {name: b, url: "http://b.example:3128"}, {name: off, url: "http://off.example:3128", enabled: false}]
    health_check: {method: %s, interval_seconds: 30}
exchanges: {binance: asia, kraken: {http: direct, websocket: asia}}
`

func TestSchedule(t *testing.T) {
	b := &bench{takes: 100 * time.Millisecond}
	b.run(t, fmt.Sprintf(asia, "exchange"), 10*time.Minute)
	want := []string{
		"a binance http exchange", "a binance websocket exchange", "a kraken websocket exchange",
		"b binance http exchange", "b binance websocket exchange", "b kraken websocket exchange",
	}
	var got []string
	for name, at := range b.started {
		got = append(got, name)
		if at[0] > 15*time.Second {
			t.Errorf("%s: first asked after %v", name, at[0])
		}
		same := true
		for i := range at[1:] {
			gap := at[i+1] - at[i]
			if gap > 30*time.Second+200*time.Millisecond || gap < 23*time.Second {
				t.Errorf("%s: %v between two", name, gap)
			}
			same = same && gap == at[1]-at[0]
		}
		if same {
			t.Errorf("%s: no jitter in %v", name, at)
		}
		if len(b.observed[name]) < len(at)-1 {
			t.Errorf("%s: %d asked, %d observed", name, len(at), len(b.observed[name]))
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

func TestMethods(t *testing.T) {
	for method, want := range map[string]string{
		"tcp":     "a   tcp,b   tcp",
		"connect": "a binance http connect,a binance websocket connect,a kraken websocket connect,b binance http connect,b binance websocket connect,b kraken websocket connect",
	} {
		b := &bench{}
		b.run(t, fmt.Sprintf(asia, method), time.Minute)
		var got []string
		for name := range b.started {
			got = append(got, name)
		}
		if slices.Sort(got); strings.Join(got, ",") != want {
			t.Errorf("%s: asked %q", method, got)
		}
	}
}

// TestPoolWithoutExchanges: a pool that only the default uses has no exchange
// to ask; its members are still asked whether they accept.
func TestPoolWithoutExchanges(t *testing.T) {
	b := &bench{}
	b.run(t, "pools: {p: {proxies: [{name: a, url: 'http://a.example:1'}], health_check: {method: exchange, interval_seconds: 10}}}\ndefault: p\n", time.Minute)
	if len(b.started) != 1 || len(b.started["a   tcp"]) < 5 {
		t.Errorf("asked %v", b.started)
	}
}

func TestNothingIsProbedWithoutHealthCheck(t *testing.T) {
	b := &bench{}
	b.run(t, "pools: {p: {proxies: ['http://a.example:1']}}\nexchanges: {binance: p}\n", time.Hour)
	if len(b.started) != 0 {
		t.Errorf("asked %v", b.started)
	}
}

func TestParallel(t *testing.T) {
	t.Parallel()
	var members strings.Builder
	for i := range 60 {
		fmt.Fprintf(&members, "'http://m%d.example:1',", i)
	}
	b := &bench{takes: 2 * time.Second}
	b.run(t, "pools: {p: {proxies: ["+members.String()+"], health_check: {method: exchange, interval_seconds: 1}}}\nexchanges: {binance: p}\n", 5*time.Minute)
	if b.max != 8 {
		t.Errorf("%d probes at the same time, want 8", b.max)
	}
	if b.looks > 5*60*8 { // a probe takes 2 s: 4 begin in a second, and as many end
		t.Errorf("looked %d times in five minutes, though there was room for no more", b.looks)
	}
	if len(b.started) != 120 {
		t.Errorf("%d pairs asked, want all 120", len(b.started))
	}
	least, most := 1<<30, 0
	for _, at := range b.started {
		least, most = min(least, len(at)), max(most, len(at))
	}
	if most-least > 2 {
		t.Errorf("some are asked %d times, others %d", most, least)
	}
}

// TestTrafficReplacesProbes: what traffic shows need not be asked. An open connection says nothing
// of what the exchange answered in it.
func TestTrafficReplacesProbes(t *testing.T) {
	now := func(Pair) Known { return Known{Opened: time.Now(), Carried: time.Now()} }
	opened := func(Pair) Known { return Known{Opened: time.Now()} }
	for _, c := range []struct {
		name, method string
		known        func(Pair) Known
		asked        bool
	}{
		{"tcp, connections are opened", "tcp", opened, false},
		{"connect, connections are opened", "connect", opened, false},
		{"exchange, connections are opened", "exchange", opened, true},
		{"exchange, tunnels carry", "exchange", now, false},
	} {
		b := &bench{known: c.known}
		b.run(t, fmt.Sprintf(asia, c.method), 5*time.Minute)
		if delete(b.started, "a binance http exchange"); len(b.started["b binance http exchange"]) == 0 && c.method == "exchange" {
			t.Errorf("%s: REST, whose answers tunnels do not show, is not asked", c.name)
		}
		if delete(b.started, "b binance http exchange"); (len(b.started) > 0) != c.asked {
			t.Errorf("%s: asked %v", c.name, b.started)
		}
	}
}

// TestProbesAreBroughtForward: what is asked for soon is asked within seconds, once, though
// traffic shows that the member works; but not what asked to be left alone.
func TestProbesAreBroughtForward(t *testing.T) {
	b := &bench{soon: 2 * time.Minute}
	b.known = func(p Pair) Known {
		if p.Exchange == "kraken" {
			return Known{Until: time.Now().Add(time.Hour)}
		}
		return Known{Opened: time.Now(), Carried: time.Now()}
	}
	b.run(t, fmt.Sprintf(asia, "connect"), 5*time.Minute)
	if len(b.started) != 2 {
		t.Errorf("asked: %v", b.started)
	}
	for _, pair := range []string{"a binance http connect", "a binance websocket connect"} {
		if at := b.started[pair]; len(at) != 1 || at[0] < b.soon || at[0] > b.soon+2*time.Second {
			t.Errorf("%s: asked at %v", pair, at)
		}
	}
}

// TestBannedPairsAreNotProbed: nothing is asked that asked to be left alone, and all is once that
// is over.
func TestBannedPairsAreNotProbed(t *testing.T) {
	const ban = 10 * time.Minute
	var began time.Time
	b := &bench{}
	b.known = func(p Pair) Known {
		if began.IsZero() {
			began = time.Now()
		}
		if p.Member.Name() == "a" && p.Exchange == "binance" && p.Kind == catalog.KindHTTP {
			return Known{Until: began.Add(ban)}
		}
		return Known{}
	}
	b.run(t, fmt.Sprintf(asia, "exchange"), 12*time.Minute)
	at := b.started["a binance http exchange"]
	if len(at) == 0 || at[0] < ban || at[0] > ban+2*time.Second {
		t.Errorf("asked at %v, banned for %v", at, ban)
	}
	if len(b.started["a binance websocket exchange"]) < 20 {
		t.Error("the ban of REST stopped the feed's probes")
	}
}

// TestExchangeTroubleBlamesNoMember: an exchange that asks for patience with its own trouble has it.
func TestExchangeTroubleBlamesNoMember(t *testing.T) {
	b := &bench{}
	b.find = func(Pair, Method) Result { return Result{Verdict: Unknown, Until: time.Now().Add(4 * time.Minute)} }
	b.run(t, fmt.Sprintf(asia, "exchange"), 10*time.Minute)
	for name, at := range b.started {
		if len(at) < 2 || len(at) > 3 || at[1]-at[0] < 4*time.Minute {
			t.Errorf("%s: asked at %v", name, at)
		}
	}
}

// TestEjectedMemberReturns: an ejected member is asked when its ejection ends, though its pool
// probes no health_check, until it is back.
func TestEjectedMemberReturns(t *testing.T) {
	var back time.Time
	good := 0
	b := &bench{}
	b.known = func(p Pair) Known {
		if back.IsZero() {
			back = time.Now().Add(20 * time.Second)
		}
		return Known{Ejected: p.Member.Name() == "a" && good < 2, Back: back}
	}
	b.find = func(Pair, Method) Result { good++; return Result{Verdict: OK} }
	b.run(t, "pools: {p: {proxies: [{name: a, url: 'http://a.example:1'}, {name: b, url: 'http://b.example:1'}]}}\nexchanges: {binance: {websocket: p}}\n", 5*time.Minute)
	at := b.started["a binance websocket connect"]
	if len(b.started) != 1 || len(at) != 2 || at[0] < 20*time.Second || at[1] > 24*time.Second {
		t.Errorf("asked %v, want a connection twice, right after 20 s", b.started)
	}
	if len(b.observed["a   connect"]) != 2 || len(b.observed) != 1 {
		t.Errorf("observed %v, want what concerns the member alone", b.observed)
	}
}

// TestMemberThatCarriesAgainIsProbedEarly: the ejection of a member through which
// clients have opened connections, as the last resort, ends early; so does the wait
// for its probe.
func TestMemberThatCarriesAgainIsProbedEarly(t *testing.T) {
	var start time.Time
	b := &bench{}
	b.known = func(p Pair) Known {
		if start.IsZero() {
			start = time.Now()
		}
		k := Known{Ejected: p.Member.Name() == "a", Back: start.Add(5 * time.Minute)}
		if time.Since(start) >= 10*time.Second {
			k.Back = start.Add(15 * time.Second)
		}
		return k
	}
	b.find = func(Pair, Method) Result { return Result{Verdict: OK} }
	b.run(t, "pools: {p: {proxies: [{name: a, url: 'http://a.example:1'}, {name: b, url: 'http://b.example:1'}]}}\nexchanges: {binance: {websocket: p}}\n", time.Minute)
	if at := b.started["a binance websocket connect"]; len(at) == 0 || at[0] < 15*time.Second || at[0] > 17*time.Second {
		t.Errorf("asked at %v, want 15 s first", at)
	}
}

// TestReloadChangesJobs: what left the configuration is asked no more, what came is.
func TestReloadChangesJobs(t *testing.T) {
	next := snapshot(t, strings.ReplaceAll(fmt.Sprintf(asia, "exchange"), "name: a, url: \"socks5://a.example", "name: c, url: \"socks5://c.example"))
	b := &bench{}
	b.known = func(Pair) Known { return Known{} }
	b.find = func(p Pair, _ Method) Result {
		if p.Member.Name() == "b" && len(b.started["b binance http exchange"]) > 3 {
			b.router = next
		}
		return Result{Verdict: OK}
	}
	b.run(t, fmt.Sprintf(asia, "exchange"), 10*time.Minute)
	a, c := b.started["a binance http exchange"], b.started["c binance http exchange"]
	if len(a) < 2 || len(a) > 5 || len(c) < 10 || c[0]-a[len(a)-1] > 60*time.Second {
		t.Errorf("a asked at %v, c at %v", a, c)
	}
	for _, name := range []string{"b binance http exchange", "b binance websocket exchange", "b kraken websocket exchange"} {
		for i, at := range b.started[name][1:] {
			if gap := at - b.started[name][i]; gap > 31*time.Second {
				t.Errorf("%s, which stayed, was not asked for %v", name, gap)
			}
		}
	}
}

// TestUnsureFailureBlamesNoMember: where the cause is unknown, the member is to blame once another one
// does for the same exchange.
func TestUnsureFailureBlamesNoMember(t *testing.T) {
	for _, c := range []struct {
		name          string
		found, others Verdict
		unsure        bool
	}{
		{"the other one works", "target_timeout", OK, false},
		{"the other one fails too", "target_timeout", "target_timeout", true},
		{"a budget blames no member", "budget", OK, true},
	} {
		b := &bench{}
		b.find = func(p Pair, _ Method) Result {
			if p.Member.Name() == "a" {
				return Result{Verdict: c.found, Unsure: true}
			}
			return Result{Verdict: c.others, Unsure: c.others != OK}
		}
		b.run(t, fmt.Sprintf(asia, "exchange"), 5*time.Minute)
		all := b.observed["a binance http exchange"]
		if last := all[len(all)-1]; last.Unsure != c.unsure {
			t.Errorf("%s: %+v", c.name, last)
		}
	}
}

// TestRunStopsWithContext: a probe that outlasted its own time by far was not running: the
// process was stopped, or the machine asleep. It is no evidence.
func TestRunStopsWithContext(t *testing.T) {
	b := &bench{}
	b.find = func(Pair, Method) Result { return Result{Verdict: "target_timeout", Took: time.Minute} }
	b.run(t, fmt.Sprintf(asia, "exchange"), 2*time.Minute)
	if len(b.started) == 0 || len(b.observed) != 0 {
		t.Errorf("asked %d pairs, observed %v", len(b.started), b.observed)
	}
}
