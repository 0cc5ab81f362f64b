package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// named is a fake as a pool's member.
func named(name string, p *testkit.Proxy) string {
	return fmt.Sprintf("{name: %s, url: %q}", name, p.URL())
}

// echoing is a kind fake through which every host is an echo.
func echoing(t *testing.T, scheme, echo string) *testkit.Proxy {
	t.Helper()
	return testkit.NewProxy(t, testkit.ProxyOptions{Scheme: scheme, Hosts: map[string]string{"*": echo}})
}

// opened opens a tunnel, has it carry, and closes it.
func opened(t *testing.T, p *proxyd, protocol testkit.Protocol, target string) (took time.Duration) {
	t.Helper()
	c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: target})
	if !reply.OK {
		t.Fatalf("%s: %v\n%s", target, reply, p.Log)
	}
	works(c)
	_ = c.Close()
	return reply.Took
}

// lines are those of a log that hold all of what.
func lines(log string, what ...string) (found []string) {
next:
	for l := range strings.SplitSeq(log, "\n") {
		for _, w := range what {
			if !strings.Contains(l, w) {
				continue next
			}
		}
		found = append(found, l)
	}
	return found
}

// met is how many requests a member failed, and another one then served.
func met(p *proxyd, name string) int {
	return len(lines(p.Log.String(), `"msg":"tunnel open"`, `"tried":"`, name+" "))
}

// told are the lines that say how members did, for messages.
func told(p *proxyd) string {
	return strings.Join(append(lines(p.Log.String(), `"tried":"`), lines(p.Log.String(), `"msg":"upstream `)...), "\n")
}

// Of three members one refuses, one is silent and one works: each of 500 requests
// succeeds, and after the first few the bad ones are not dialled any more.
func TestBadMembersAreLeftAlone(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	silent, good := testkit.NewProxy(t, testkit.ProxyOptions{Fault: testkit.On(testkit.AtAccept, testkit.Hang)}), echoing(t, "http", echo.Addr)
	yaml := func(members ...string) string {
		return "attempt_seconds: 2\npools: {asia: {proxies: [" + strings.Join(members, ", ") + "], eject: {base_seconds: 60}}}\n" +
			"exchanges: {binance: {pool: asia, timeout_seconds: 20}}\ndefault: reject\n"
	}
	p := start(t, yaml("{name: refuses, url: \"socks5://"+testkit.ClosedPort(t)+"\"}", named("silent", silent), named("good", good)))
	alone := start(t, yaml(named("good", good)))
	requests := func(p *proxyd, workers, n int) (took []time.Duration) {
		var mu sync.Mutex
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for i := range n / workers {
					d := opened(t, p, []testkit.Protocol{testkit.CONNECT11, testkit.SOCKS5}[i%2], target)
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			})
		}
		all.Wait()
		return took
	}
	requests(p, 1, 20)
	written := func(n int) func() bool {
		return func() bool { return len(lines(p.Log.String(), `"msg":"tunnel open"`)) == n }
	}
	testkit.Eventually(t, testkit.Patience, "the log has all", written(20))
	if r, s := met(p, "refuses"), met(p, "silent"); r != 1 || s != 3 || silent.Accepted() != 3 {
		t.Errorf("at first %d requests met the refusing one, %d the silent one, which saw %d connections; want 1, 3, 3\n%s", r, s, silent.Accepted(), told(p))
	}
	var with, without []time.Duration
	for range 10 { // by turns, so that both meet the same moments of a busy machine
		with = append(with, requests(p, 5, 50)...)
		without = append(without, requests(alone, 5, 50)...)
	}
	testkit.Eventually(t, testkit.Patience, "the log has all", written(520))
	if r, s := met(p, "refuses"), met(p, "silent"); r != 1 || s != 3 || silent.Accepted() != 3 {
		t.Errorf("later %d requests met the refusing one, %d the silent one, which saw %d connections", r, s, silent.Accepted())
	}
	p99 := func(all []time.Duration) time.Duration {
		slices.Sort(all)
		return all[len(all)*99/100]
	}
	t.Logf("p99 of a set-up: %v, of the good one alone %v", p99(with), p99(without))
}

// A member that is killed under traffic costs one request a second try, and no
// request more than that.
func TestAKilledMemberIsOutWithinOneRequest(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "socks5", "socks4a"} {
		if before, after, p := killed(t, scheme, ", tier: 2"); before != [2]int{6, 0} || after != 1 {
			t.Errorf("%s: the two were asked %d times, then %d requests met the dead one\n%s", scheme, before, after, told(p))
		}
	}
}

// So does one beside another of its tier, which had half of the requests.
func TestAKilledMemberOfATierIsOutWithinOneRequest(t *testing.T) { // not beside the others, which would disturb it
	for _, scheme := range []string{"http", "socks5", "socks4a"} {
		undisturbed(t, func() (*proxyd, string) {
			before, after, p := killed(t, scheme, "")
			if before != [2]int{3, 3} || after != 1 {
				return p, fmt.Sprintf("%s: the two were asked %d times, then %d requests met the dead one\n%s", scheme, before, after, told(p))
			}
			return p, ""
		})
	}
}

// killed has a member killed between requests. It returns how many of them were asked of
// it and of the other one before, and how many met it later.
func killed(t *testing.T, scheme, tierOfOther string) (before [2]int, after int, p *proxyd) {
	t.Helper()
	echo := testkit.NewTCP(t, testkit.Echo)
	dies, stays := echoing(t, scheme, echo.Addr), echoing(t, scheme, echo.Addr)
	other := strings.TrimSuffix(named("stays", stays), "}") + tierOfOther + "}"
	p = start(t, "pools: {asia: {proxies: ["+named("dies", dies)+", "+other+"], eject: {base_seconds: 60}}}\nexchanges: {binance: {pool: asia, timeout_seconds: 20}}\ndefault: reject\n")
	for range 6 {
		opened(t, p, testkit.CONNECT11, target)
	}
	before = [2]int{len(dies.Asked()), len(stays.Asked())}
	dies.Stop()
	for range 20 {
		opened(t, p, testkit.CONNECT11, target)
	}
	testkit.Eventually(t, testkit.Patience, "the log has all", func() bool { return len(lines(p.Log.String(), `"msg":"tunnel open"`)) == 26 })
	return before, met(p, "dies"), p
}

// A member that is back after a fault is used again when as many probes in a row
// as rise says have succeeded: no sooner, and through no client's request.
func TestAMemberComesBackThroughProbes(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	const client = "api1.binance.com" // probes ask for api.binance.com
	for name, tc := range map[string]struct {
		check       string
		least, most int // probes; one may come from the regular checks
	}{
		"without a health_check": {"", 2, 2},
		"with one":               {"health_check: {method: connect, interval_seconds: 600, rise: 3}, ", 3, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dies, stays := echoing(t, "http", echo.Addr), echoing(t, "http", echo.Addr)
			p := start(t, "pools: {asia: {"+tc.check+"eject: {base_seconds: 1}, proxies: ["+named("dies", dies)+", "+named("stays", stays)+"]}}\n"+
				"exchanges: {binance: {pool: asia, timeout_seconds: 20, probe: {http: \"http://api.binance.com/\", websocket: \"ws://api.binance.com/\"}}}\ndefault: reject\n")
			f := startFeeds(t, p.Addr, client+":443", 4, 50*time.Millisecond, testkit.SOCKS5)
			traffic := func(what string, until func() bool) {
				t.Helper()
				testkit.Eventually(t, 2*testkit.Patience, what, func() bool {
					opened(t, p, testkit.CONNECT11, client+":443")
					return until()
				})
			}
			dies.SetFault(testkit.On(testkit.AtRequest, testkit.ResetAfter(0)))
			traffic("the fault is met", func() bool { return p.line(`"tried":"dies upstream_protocol"`) != "" })
			from := len(dies.Asked())
			traffic("a probe fails", func() bool { return len(dies.Asked()) > from })
			dies.SetFault(nil)
			back := len(dies.Asked())
			traffic("it is used again", func() bool {
				return slices.ContainsFunc(dies.Asked()[from:], func(a testkit.Asked) bool { return a.Host == client })
			})
			good := slices.IndexFunc(dies.Asked()[from:], func(a testkit.Asked) bool { return a.Host == client }) - (back - from)
			if good < tc.least || good > tc.most {
				t.Errorf("a client's request came after %d good probes, want %d", good, tc.least)
			}
			if p.waitLine(`"type":"upstream_ejected"`, `"upstream":"dies"`) == "" || p.waitLine(`"type":"upstream_back"`, `"upstream":"dies"`) == "" {
				t.Errorf("the log does not say so:\n%s", told(p))
			}
			f.end(t) // health cuts nothing that lives, through the member that was ejected either
		})
	}
}

// One that is bad and good by turns, a second each, is ejected for longer each
// time; every request succeeds meanwhile.
func TestOneThatAlternatesDoesNotFlap(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	turns, stays := echoing(t, "socks5", echo.Addr), echoing(t, "socks5", echo.Addr)
	p := start(t, "pools: {asia: {health_check: {method: connect, interval_seconds: 600, rise: 1}, eject: {base_seconds: 1.3, max_seconds: 60}, proxies: ["+named("turns", turns)+", {name: stays, tier: 2, url: \""+stays.URL()+"\"}]}}\n"+
		"exchanges: {binance: {pool: asia, timeout_seconds: 20}}\ndefault: reject\n")
	f := startFeeds(t, p.Addr, target, 4, 50*time.Millisecond, testkit.SOCKS5)
	begin := time.Now()
	for time.Since(begin) < 9*time.Second {
		turns.SetFault(nil)
		if int(time.Since(begin)/time.Second)%2 == 0 {
			turns.SetFault(testkit.On(testkit.AtRequest, testkit.ResetAfter(0)))
		}
		opened(t, p, testkit.CONNECT11, target)
		time.Sleep(5 * time.Millisecond)
	}
	// Each met request is an ejection, since the requests come one by one: five, if
	// every bad second found it in use. With 1.3 s, 2.6 s and 5.2 s, each less up to
	// a fifth, the second ends no sooner than in the third bad second, and the third
	// not at all.
	if n := met(p, "turns"); n < 1 || n > 3 {
		t.Errorf("%d requests met it in nine seconds\n%s", n, told(p))
	}
	f.end(t)
}

// With every member ejected each is still tried, the one that failed longest ago
// first, and one that is disabled never.
func TestWhenAllMembersAreBad(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	ups := map[string]*testkit.Proxy{}
	for _, name := range []string{"a", "b", "c", "off"} {
		ups[name] = echoing(t, "http", echo.Addr)
	}
	p := start(t, "pools: {asia: {strategy: round_robin, eject: {base_seconds: 60}, proxies: ["+named("a", ups["a"])+", "+named("b", ups["b"])+", "+named("c", ups["c"])+
		fmt.Sprintf(", {name: off, url: %q, enabled: false}]}}\n", ups["off"].URL())+"exchanges: {binance: {pool: asia, timeout_seconds: 20}}\ndefault: reject\n")
	tried := make(chan string, 100) // who failed, in this order
	breaks := func(name string) {
		ups[name].SetFault(testkit.On(testkit.AtRequest, func(c net.Conn) {
			tried <- name
			testkit.Reset(c)
		}))
	}
	for _, name := range []string{"b", "c"} { // b fails first
		breaks(name)
		testkit.Eventually(t, testkit.Patience, name+" is met", func() bool {
			opened(t, p, testkit.SOCKS5, target)
			return len(tried) > 0
		})
		<-tried
	}
	breaks("a")
	// ask wants these to fail, in this order, and then one that opens the way.
	ask := func(order, then string) {
		t.Helper()
		before := 0
		if then != "" {
			before = len(ups[then].Asked())
		}
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
		_ = c.Close()
		got := ""
		for len(tried) > 0 {
			got += <-tried
		}
		if got != order || reply.OK != (then != "") || then != "" && len(ups[then].Asked()) != before+1 {
			t.Errorf("%q failed, want %q and then %q: %v", got, order, then, reply)
		}
	}
	ask("abc", "") // a is the one still in use; then b, which failed before c
	ask("abc", "") // the same again: each has failed anew
	ups["c"].SetFault(nil)
	ask("ab", "c")
	ask("", "c") // of the three it is now the one that failed longest ago
	if n := ups["off"].Accepted(); n > 0 {
		t.Errorf("a disabled member was dialled %d times", n)
	}
}
