package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// trio is a daemon with three members a, b and c, which lead to an echo.
type trio struct {
	*proxyd
	ups [3]*testkit.Proxy
}

// newTrio makes the pool of this strategy (and more of its keys); extra is what
// else the file says of each member.
func newTrio(t *testing.T, strategy string, extra ...string) *trio {
	t.Helper()
	echo := testkit.NewTCP(t, testkit.Echo)
	three := &trio{}
	members := ""
	for i, more := range extra {
		three.ups[i] = echoing(t, "http", echo.Addr)
		members += fmt.Sprintf("{name: %c, url: %q%s}, ", 'a'+i, three.ups[i].URL(), more)
	}
	three.proxyd = start(t, "pools: {asia: {strategy: "+strategy+", eject: {base_seconds: 60}, proxies: ["+members+"]}}\nexchanges: {binance: {pool: asia, timeout_seconds: 20}}\ndefault: reject\n")
	return three
}

// through opens a tunnel that stays, and says through whom it leaves.
func (three *trio) through(t *testing.T, host string) (member string, c *testkit.Conn) {
	t.Helper()
	before := three.shares()
	c, reply := testkit.Open(t, three.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: host + ":443"})
	if !reply.OK {
		t.Fatalf("%v\n%s", reply, told(three.proxyd))
	}
	for i, n := range three.shares() {
		if n > before[i] {
			member += string(rune('a' + i))
		}
	}
	return member, c
}

// order is through whom n tunnels leave, one after the other.
func (three *trio) order(t *testing.T, n int) (members string) {
	t.Helper()
	for range n {
		m, c := three.through(t, "api.binance.com")
		_ = c.Close()
		members += m
	}
	return members
}

func (three *trio) shares() (n [3]int) {
	for i, u := range three.ups {
		n[i] = len(u.Asked())
	}
	return n
}

// degrading matches the line of a tunnel whose dial took so long that its member may
// be degraded, as a busy machine makes it: then others have its share for 30 s.
var degrading = regexp.MustCompile(`"msg":"tunnel open".*"dial_ms":([5-9]\d\d|\d{4,})[.,}]`)

// undisturbed fails the test for what is wrong with how members share, "" for
// nothing. Where a dial was degrading that says nothing, and all is tried anew.
func undisturbed(t *testing.T, try func() (p *proxyd, wrong string)) {
	t.Helper()
	for end := time.Now().Add(testkit.Patience); ; {
		p, wrong := try()
		if wrong == "" {
			return
		}
		if !degrading.MatchString(p.Log.String()) || time.Now().After(end) {
			t.Fatal(wrong)
		}
		t.Logf("again, since a dial took half a second: %s", wrong)
	}
}

// Each strategy shares as it says.
func TestStrategies(t *testing.T) { // not beside the others, which would disturb it
	t.Run("round_robin", func(t *testing.T) { // smooth: no member has its turns in a row that the others could have had between
		t.Parallel()
		undisturbed(t, func() (*proxyd, string) {
			three := newTrio(t, "round_robin", ", weight: 3", ", weight: 2", "")
			if got := three.order(t, 30); got != strings.Repeat("abacba", 5) {
				return three.proxyd, got
			}
			return nil, ""
		})
	})
	t.Run("failover", func(t *testing.T) {
		t.Parallel()
		undisturbed(t, func() (*proxyd, string) {
			three := newTrio(t, "failover", "", "", "")
			got := three.order(t, 10)
			three.ups[0].Stop()
			if got += three.order(t, 10); got != "aaaaaaaaaabbbbbbbbbb" {
				return three.proxyd, got
			}
			return nil, ""
		})
	})
	t.Run("random", func(t *testing.T) {
		t.Parallel()
		const n = 240
		undisturbed(t, func() (*proxyd, string) {
			three := newTrio(t, "random", ", weight: 2", "", "")
			got := three.order(t, n)
			for name, p := range map[string]float64{"a": 0.5, "b": 0.25, "c": 0.25} {
				if have, mean, sigma := float64(strings.Count(got, name)), n*p, math.Sqrt(n*p*(1-p)); math.Abs(have-mean) > 4*sigma {
					return three.proxyd, fmt.Sprintf("%s has %.0f of %d, want %.0f within %.0f", name, have, n, mean, 4*sigma)
				}
			}
			return nil, ""
		})
	})
	t.Run("least_connections", func(t *testing.T) {
		t.Parallel()
		undisturbed(t, func() (*proxyd, string) {
			three := newTrio(t, "least_connections", ", weight: 2", "", "")
			held := map[string][]*testkit.Conn{}
			for range 40 {
				m, c := three.through(t, "api.binance.com")
				held[m] = append(held[m], c)
			}
			shares := three.shares()
			for _, c := range held["b"] {
				_ = c.Close()
			}
			testkit.Eventually(t, testkit.Patience, "their ends", func() bool { return len(lines(three.Log.String(), `"msg":"tunnel",`)) == len(held["b"]) })
			got := ""
			for range 10 { // they stay open
				m, _ := three.through(t, "api.binance.com")
				got += m
			}
			if shares != [3]int{20, 10, 10} || got != "bbbbbbbbbb" {
				return three.proxyd, fmt.Sprintf("%v, and while b has the fewest %s", shares, got)
			}
			return nil, ""
		})
	})
}

// Who needs one exit for an exchange has it, REST and websocket, or one for each
// host; and where a member goes, only what it had moves.
func TestHashKeepsTogether(t *testing.T) { // not beside the others, which would disturb it
	hosts := []string{"api.binance.com", "api1.binance.com", "api2.binance.com", "api3.binance.com", "api4.binance.com", "data.binance.com", "stream.binance.com", "data-stream.binance.com"}
	for over, most := range map[string]int{"exchange": 1, "host": 3} {
		t.Run("over the "+over, func(t *testing.T) {
			t.Parallel()
			undisturbed(t, func() (*proxyd, string) {
				three := newTrio(t, "hash, hash_over: "+over, "", "", "")
				return three.proxyd, three.keepTogether(t, hosts, over == "host", most)
			})
		})
	}
}

// keepTogether returns what is wrong with through whom hosts leave, before and after
// one of the members is gone.
func (three *trio) keepTogether(t *testing.T, hosts []string, several bool, most int) (wrong string) {
	t.Helper()
	at := map[string]string{}
	look := func() (used string) {
		for range 3 {
			for _, h := range hosts {
				m, c := three.through(t, h)
				_ = c.Close()
				if at[h] == "" {
					at[h] = m
				} else if at[h] != m {
					wrong = fmt.Sprintf("%s leaves through %s after %s", h, m, at[h])
				}
				if !strings.Contains(used, m) {
					used += m
				}
			}
		}
		return used
	}
	used := look()
	if len(used) > most || several && len(used) < 2 {
		wrong = "they leave through " + used
	}
	gone := used[:1]
	three.ups[gone[0]-'a'].Stop()
	for h, m := range at {
		if m == gone {
			delete(at, h)
		}
	}
	if now := look(); strings.Contains(now, gone) {
		wrong = fmt.Sprintf("after the end of %s: %s", gone, now)
	}
	return wrong
}

// A higher tier is for when the lower one has nobody left, whatever the strategy.
func TestTiersComeBeforeStrategies(t *testing.T) {
	for _, strategy := range []string{"round_robin", "random", "least_connections", "lowest_latency", "failover", "hash"} {
		three := newTrio(t, strategy, ", tier: 2, weight: 100", "", "")
		if three.order(t, 20); three.shares()[0] != 0 {
			t.Errorf("%s: the second tier served beside the first: %v", strategy, three.shares())
		}
		for _, up := range three.ups[1:] {
			if n := three.shares()[0]; n != 0 {
				t.Errorf("%s: the second tier served while the first had one left", strategy)
			}
			up.SetFault(testkit.On(testkit.AtAccept, testkit.ResetAfter(0)))
			three.order(t, 10)
		}
		if got := three.order(t, 10); got != "aaaaaaaaaa" {
			t.Errorf("%s: then %s", strategy, got)
		}
	}
}

// lowest_latency sends nearly all to the fast one, and stays with it; when another
// is faster, that is seen.
func TestLowestLatency(t *testing.T) { // not beside the others, which would disturb it
	undisturbed(t, func() (*proxyd, string) { return lowestLatency(t) })
}

// lowestLatency returns what is wrong with whom the strategy chooses. No dial is
// degrading before the last requests.
func lowestLatency(t *testing.T) (p *proxyd, wrong string) {
	t.Helper()
	var delays [2]atomic.Int64
	var used [2]atomic.Int64
	members := ""
	for i := range delays {
		up := testkit.NewTCP(t, func(c net.Conn) { // a proxy that takes its time, and an echo
			used[i].Add(1)
			r := bufio.NewReader(c)
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			time.Sleep(time.Duration(delays[i].Load()))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			_, _ = io.Copy(struct{ io.Writer }{c}, r)
		})
		members += fmt.Sprintf("{name: %c, url: \"http://%s\"}, ", 'a'+i, up.Addr)
	}
	p = start(t, "attempt_seconds: 9\npools: {asia: {strategy: lowest_latency, proxies: ["+members+"]}}\nexchanges: {binance: {pool: asia, timeout_seconds: 20}}\ndefault: reject\n")
	delays[0].Store(int64(150 * time.Millisecond))
	for range 100 {
		opened(t, p, testkit.CONNECT11, target)
	}
	if n := used[0].Load(); n > 5 { // one to find out; a pause of this machine may cost another
		return p, fmt.Sprintf("the slow one was chosen %d times of 100", n)
	}
	delays[0].Store(0)
	delays[1].Store(int64(time.Second)) // far more than a busy machine takes
	before := used[1].Load()
	for range 20 {
		opened(t, p, testkit.CONNECT11, target)
	}
	if n := used[1].Load() - before; n > 8 {
		return p, fmt.Sprintf("the one that has got slow was chosen %d times of 20", n)
	}
	return p, ""
}
