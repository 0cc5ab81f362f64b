package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// arrivals is an exchange that notes when each connection comes, and then says
// one byte.
type arrivals struct {
	*testkit.TCP
	mu    sync.Mutex
	times []time.Time
}

func newArrivals(t *testing.T) *arrivals {
	t.Helper()
	a := &arrivals{}
	a.TCP = testkit.NewTCP(t, func(c net.Conn) {
		a.mu.Lock()
		a.times = append(a.times, time.Now())
		a.mu.Unlock()
		_, _ = io.WriteString(c, "x")
		testkit.Hang(c)
	})
	return a
}

// most is the largest number of arrivals in any window of that length, both of
// its ends included.
func (a *arrivals) most(window time.Duration) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.times, time.Time.Compare)
	for first, i := 0, 0; i < len(a.times); i++ {
		for a.times[i].Sub(a.times[first]) > window {
			first++
		}
		n = max(n, i-first+1)
	}
	return n
}

// upstream is an HTTP proxy that leads to the exchange, and says so only when the
// exchange has noted the connection: on a busy machine it may do so late.
func (a *arrivals) upstream(t *testing.T) string {
	t.Helper()
	return "http://" + testkit.NewTCP(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		far, err := net.Dial("tcp", a.Addr)
		if err != nil {
			return
		}
		defer far.Close()
		one := make([]byte, 1)
		if _, err := io.ReadFull(far, one); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nx")
		_, _ = io.Copy(io.Discard, r)
	}).Addr
}

// venueFeed is where the connections of these tests go.
const venueFeed = "feed.venue.example:443"

func venueWith(limits string, seconds int, more string, members ...string) string {
	return more + "pools: {asia: {strategy: failover, proxies: [" + strings.Join(members, ", ") + "]}}\n" +
		fmt.Sprintf("exchanges: {venue: {hosts: {websocket: [feed.venue.example]}, websocket: {pool: asia, timeout_seconds: %d, limits: %s}}}\n", seconds, limits)
}

// Not parallel: it works hard. The exchange never sees more than its limit in any
// second, and every client that is refused is told why and when to come again.
func TestAThousandConnectsAtOnceKeepTheBudget(t *testing.T) {
	const clients, most = 1000, 100
	exchange := newArrivals(t)
	p := start(t, venueWith("{connects: 100/1s, queue_seconds: 3}", 10, "", fmt.Sprintf("{name: tokyo-1, url: %q}", exchange.upstream(t))))
	sentence := regexp.MustCompile(`^queued [0-3]\.\d s; budget venue via tokyo-1: \d+ of 100 per 1 s \(websocket\)`)
	var mu sync.Mutex
	var opened, refused int
	var longest time.Duration
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: venueFeed})
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, reply.Took)
			if reply.OK {
				opened++
				return
			}
			refused++
			again, _ := strconv.Atoi(reply.Header.Get("Retry-After"))
			if reply.Status != 503 || !sentence.MatchString(reply.Body) || again < 1 || again > 2 ||
				!strings.HasPrefix(reply.Header.Get("X-Proxyd-Error"), "class=budget exchange=venue ") {
				t.Errorf("%v", reply)
			}
		})
	}
	all.Wait()
	if n := exchange.most(time.Second); n > most {
		t.Errorf("%d connections came in one second, the budget is %d", n, most)
	}
	if opened != exchange.Accepted() || opened < 3*most || opened > 5*most || opened+refused != clients {
		t.Errorf("%d clients were served and %d refused; %d connections came", opened, refused, exchange.Accepted())
	}
	if longest > 6*time.Second {
		t.Errorf("a client waited for %v", longest)
	}
	if p.waitLine(`"msg":"tunnel open"`, `"queued_ms":`) == "" || p.waitLine(`"msg":"refused"`, `"class":"budget"`) == "" {
		t.Error("no line in the log tells of the queue, or of those refused")
	}
	t.Logf("%d served, at most %d in a second; %d refused; the longest answer took %v", opened, exchange.most(time.Second), refused, longest)
}

// Who waits for one exchange's budget does not hold up the others of its pool.
func TestAQueueHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	exchange := newArrivals(t)
	p := start(t, venueWith("{max_connections: 1, queue_seconds: 4}", 10, "default: {pool: asia, timeout_seconds: 3}\n", fmt.Sprintf("{name: a, url: %q}", exchange.upstream(t))))
	first, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: venueFeed})
	if !reply.OK {
		t.Fatal(reply)
	}
	var waiting sync.WaitGroup
	for range 300 {
		waiting.Go(func() {
			c, _ := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: venueFeed})
			_ = c.Close()
		})
	}
	defer waiting.Wait()
	defer first.Close()
	for range 10 {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: "other.example:443"})
		if !reply.OK || reply.Took > soon {
			t.Fatalf("%v after %v", reply, reply.Took)
		}
		_ = c.Close()
	}
}

// A member that is over its budget is passed over; a reload changes the figure
// and forgets nothing; then nobody is left.
func TestBudgetsThroughAReload(t *testing.T) {
	t.Parallel()
	exchange := newArrivals(t)
	var members []string
	for _, m := range []string{"a, exit: tokyo", "b, exit: tokyo, tier: 2", "c, tier: 3"} {
		members = append(members, fmt.Sprintf("{url: %q, name: %s}", exchange.upstream(t), m))
	}
	p := start(t, venueWith("{connects: 2/1h}", 5, "", members...))
	served := map[string]int{}
	through := func(want ...string) {
		t.Helper()
		for _, upstream := range want {
			if _, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: venueFeed}); !reply.OK {
				t.Fatal(reply)
			}
			served[upstream]++
			line := regexp.MustCompile(`"msg":"tunnel open".*"upstream":"` + upstream + `"`)
			testkit.Eventually(t, testkit.Patience, "a line that says "+upstream, func() bool {
				return len(line.FindAllString(p.Log.String(), -1)) == served[upstream]
			})
		}
	}
	full := func(text string) {
		t.Helper()
		_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: venueFeed})
		again, _ := strconv.Atoi(reply.Header.Get("Retry-After"))
		if reply.Status != 503 || !strings.HasPrefix(reply.Body, text) || again < 3000 || again > 3600 {
			t.Errorf("%v\nwant %s", reply, text)
		}
		if _, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: venueFeed}); reply.Code != 1 {
			t.Error(reply)
		}
	}
	through("a", "a", "c", "c")
	full("budget venue via tokyo: 0 of 2 per 1 h (websocket); budget venue via c: 0 of 2 per 1 h (websocket)")
	p.apply(t, venueWith("{connects: 3/1h}", 5, "", members...))
	through("a", "c")
	full("budget venue via tokyo: 0 of 3 per 1 h (websocket); budget venue via c: 0 of 3 per 1 h (websocket)")
	p.apply(t, venueWith("{connects: 31/1h, share: 1/10}", 5, "", members...)) // the same part of more
	full("budget venue via tokyo: 0 of 3 per 1 h, this host's part of 31 (websocket); budget venue via c: 0 of 3 per 1 h, this host's part of 31 (websocket)")
	if n := exchange.Accepted(); n != 6 {
		t.Errorf("%d connections came", n)
	}
}
