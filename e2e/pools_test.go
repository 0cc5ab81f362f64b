package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// pool is a configuration in which binance leaves through members, in order,
// with a budget of so many seconds.
func pool(budget int, more string, members ...string) string {
	return more + "pools: {asia: {strategy: failover, proxies: [" + strings.Join(members, ", ") + "]}}\n" +
		fmt.Sprintf("exchanges: {binance: {http: {pool: asia, timeout_seconds: %d}}}\n", budget)
}

// member is a fake as a pool's member, with a fault unless f is nil.
func member(t *testing.T, name, scheme, exchange string, f *testkit.Fault) (*testkit.Proxy, string) {
	t.Helper()
	p := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: scheme, Hosts: map[string]string{"*": exchange}, Fault: f})
	return p, fmt.Sprintf("{name: %s, url: %q}", name, p.URL())
}

// Promise (data path): when a member of a pool fails, the next one is tried
// within the same request.
func TestTheNextMemberIsTriedInsideOneRequest(t *testing.T) {
	t.Parallel()
	exchange := testkit.NewExchange(t)
	closed, silent, hole := testkit.ClosedPort(t), testkit.SilentListener(t), testkit.BlackHole(t)
	answer := func(status string) *testkit.Fault { return testkit.On(testkit.AtRequest, testkit.Answer(status, "")) }
	for name, tc := range map[string]struct {
		scheme string
		addr   string // in place of a fake
		fault  *testkit.Fault
		class  string
	}{
		"refuses":                 {"http", closed, nil, refused.class},
		"is a black hole":         {"socks5", hole, nil, slowUpstream.class},
		"has no such name":        {"http", "px.onion:3128", nil, noName.class},
		"is silent":               {"socks5", silent, nil, slowUpstream.class},
		"is silent when asked":    {"http", silent, nil, slowTarget.class},
		"is no TLS proxy":         {"https", "", testkit.On(testkit.AtAccept, testkit.Say("HTTP/1.1 400 No\r\n\r\n")), badTLS.class},
		"speaks garbage":          {"http", "", testkit.On(testkit.AtRequest, testkit.Say("SSH-2.0-x\r\n")), garbage.class},
		"resets":                  {"socks4a", "", testkit.On(testkit.AtRequest, testkit.ResetAfter(0)), garbage.class},
		"wants a password":        {"http", "", answer("407 Who"), badAuth.class},
		"forbids the target":      {"http", "", answer("403 No"), saysNo.class},
		"cannot reach it":         {"http", "", answer("502 Bad Gateway"), targetAway.class},
		"has a general failure":   {"socks5", "", testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(1)), targetAway.class},
		"does not allow the rule": {"socks5", "", testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(2)), saysNo.class},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := tc.addr
			if addr == "" {
				addr = testkit.NewProxy(t, testkit.ProxyOptions{Scheme: strings.TrimSuffix(tc.scheme, "s"), Fault: tc.fault}).Addr
			}
			kind, second := member(t, "kind", "socks5", exchange.HTTP, nil)
			p := start(t, pool(20, "attempt_seconds: 1\n", "{name: bad, url: \""+tc.scheme+"://"+addr+"\"}", second))
			for _, protocol := range asking {
				c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: target, Early: "GET / HTTP/1.1\r\nHost: a\r\n\r\n"})
				if !reply.OK || reply.Took > 2*soon {
					t.Fatalf("%s: %v after %v", protocol, reply, reply.Took)
				}
				if got := c.ReadHTTP("GET"); got.Body != "ok" {
					t.Errorf("%s: through the second member came %v", protocol, got)
				}
				_ = c.Close()
			}
			if p.waitLine(`"msg":"tunnel open"`, `"upstream":"kind"`, `"attempts":2`, `"tried":"bad `+tc.class+`"`) == "" {
				t.Errorf("no line in the log says so:\n%s", p.Log)
			}
			if n := len(kind.Asked()); n != len(asking) {
				t.Errorf("the second member was asked %d times", n)
			}
		})
	}
}

// What the target itself is to blame for is the answer, unless asked otherwise.
func TestAFaultOfTheTargetIsNotTriedElsewhere(t *testing.T) {
	t.Parallel()
	exchange := testkit.NewTCP(t, testkit.Echo)
	for code, want := range map[byte]outcome{3: targetAway, 4: targetAway, 5: targetRefused} {
		_, first := member(t, "a", "socks5", exchange.Addr, testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(code)))
		second, other := member(t, "b", "socks5", exchange.Addr, nil)
		p := start(t, pool(20, "attempt_seconds: 9\n", first, other))
		refusedAlike(t, p, target, want, "")
		if n := second.Accepted(); n > 0 {
			t.Errorf("code %d: the second member saw %d connections", code, n)
		}
		p = start(t, pool(20, "attempt_seconds: 9\nretry_target_errors: true\n", first, other))
		if _, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target}); !reply.OK {
			t.Errorf("code %d with retry_target_errors: %v", code, reply)
		}
	}
}

func TestTheAnswerNamesEachThatWasTried(t *testing.T) {
	t.Parallel()
	exchange := testkit.NewTCP(t, testkit.Echo)
	_, second := member(t, "seoul", "socks5", exchange.Addr, testkit.On(testkit.AtGreeting, testkit.Say("\x05\xff")))
	_, third := member(t, "osaka", "http", exchange.Addr, testkit.On(testkit.AtRequest, testkit.Answer("403 Not You", marker)))
	yaml := pool(20, "attempt_seconds: 9\n", "{name: tokyo, url: \"http://"+testkit.ClosedPort(t)+"\"}", second, third)
	yaml = strings.Replace(yaml, "failover,", "failover, eject: {max_percent: 0},", 1) // the order stays that of the file: who denies comes last anyway
	p := start(t, loopback+yaml+"routes: [{hosts: [127.0.0.0/8], use: asia}]\n")
	for _, at := range []string{target, exchange.Addr} {
		refusedInTunnels(t, p, at, saysNo, "")
		_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: at})
		for _, words := range []string{"tokyo", "refused", "osaka", "403 Not You", "seoul"} {
			if !strings.Contains(reply.Body, words) {
				t.Errorf("%s: the body %q lacks %q", at, reply.Body, words)
			}
		}
		if f := reply.Header.Get("X-Proxyd-Error"); !strings.HasSuffix(f, " upstream=osaka tried=3") {
			t.Errorf("%s: X-Proxyd-Error is %q", at, f)
		}
	}
	if p.waitLine(`"msg":"refused"`, `"attempts":3`, `"tried":"tokyo upstream_refused, seoul upstream_auth, osaka upstream_denied"`) == "" {
		t.Errorf("no line in the log names them:\n%s", p.Log)
	}
	if n := exchange.Accepted(); n > 0 {
		t.Errorf("the exchange saw %d connections", n)
	}
}

// One budget holds for all attempts together, in every protocol. None but the
// first starts with less than a second left.
func TestOneBudgetForAllAttempts(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "socks5"} {
		protocols := asking
		if scheme != "http" { // which answers a plain request itself
			protocols = append(protocols, "GET")
		}
		for _, protocol := range protocols {
			t.Run(scheme+" "+string(protocol), func(t *testing.T) {
				t.Parallel()
				var members []string
				for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
					members = append(members, fmt.Sprintf("{name: %s, url: \"%s://%s\"}", name, scheme, testkit.SilentListener(t)))
				}
				p := start(t, pool(3, "attempt_seconds: 0.6\n", members...))
				want := map[string]outcome{"http": slowTarget, "socks5": slowUpstream}[scheme]
				from := time.Now()
				var reply testkit.Reply
				if protocol == "GET" {
					c := testkit.Dial(t, p.Addr)
					c.Send("GET http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\n\r\n")
					reply = c.ReadHTTP("GET")
				} else {
					_, reply = testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: target})
				}
				took := time.Since(from)
				holds(t, protocol, reply, want)
				if took < 1200*time.Millisecond || took > 2*soon {
					t.Errorf("answered after %v, the budget is 3 s and an attempt's 0.6 s", took)
				}
				line := p.waitLine(`"msg":"refused"`)
				if !slices.ContainsFunc([]string{`"attempts":2,`, `"attempts":3,`, `"attempts":4,`}, func(n string) bool { return strings.Contains(line, n) }) {
					t.Errorf("not two to four attempts:\n%s", p.Log) // four fit in, fewer on a busy machine
				}
			})
		}
	}
}

// A fallback to direct is there where it is written.
func TestDirectAsTheLastTier(t *testing.T) {
	t.Parallel()
	exchange := testkit.NewTCP(t, testkit.Echo)
	up, first := member(t, "first", "http", exchange.Addr, nil)
	p := start(t, loopback+"attempt_seconds: 9\npools: {p: {proxies: [{url: direct, tier: 2}, "+first+"]}}\nexchanges: {here: {hosts: [localhost], http: {pool: p, timeout_seconds: 20}}}\n")
	open := func(upstream string) {
		t.Helper()
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "localhost:" + testkit.Port(exchange.Addr)})
		if !reply.OK {
			t.Fatal(reply)
		}
		c.Send("x")
		c.Expect("x")
		_ = c.Close()
		if p.waitLine(`"msg":"tunnel open"`, `"upstream":"`+upstream+`"`) == "" {
			t.Errorf("not through %s:\n%s", upstream, p.Log)
		}
	}
	for range 4 {
		open("first")
	}
	if p.line(`"upstream":"direct"`) != "" {
		t.Errorf("direct was used beside a good first tier:\n%s", p.Log)
	}
	up.SetFault(testkit.On(testkit.AtAccept, testkit.Close))
	open("direct")
}

func TestStrategiesSpread(t *testing.T) { // not beside the others: a member whose dial a busy machine delays is degraded
	exchange := testkit.NewTCP(t, testkit.Echo)
	for strategy, want := range map[string][3]int{
		"failover": {12, 0, 0}, "round_robin": {3, 6, 3}, "least_connections": {3, 6, 3},
	} {
		a, first := member(t, "a", "http", exchange.Addr, nil)
		b := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": exchange.Addr}})
		c, third := member(t, "c", "http", exchange.Addr, nil)
		p := start(t, "attempt_seconds: 9\npools: {p: {strategy: "+strategy+", proxies: ["+first+", {name: b, url: \""+b.URL()+"\", weight: 2}, "+third+"]}}\ndefault: {pool: p, timeout_seconds: 20}\n")
		for range 12 { // they stay open
			if _, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target}); !reply.OK {
				t.Fatal(reply)
			}
		}
		if got := [3]int{len(a.Asked()), len(b.Asked()), len(c.Asked())}; got != want {
			t.Errorf("%s: %v, want %v", strategy, got, want)
		}
	}
}
