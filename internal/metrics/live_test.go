package metrics

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// registry stands for the daemon's: a tunnel leaves it only after its Ended record.
type registry struct {
	mu   sync.Mutex
	live map[string]*atomic.Int64
}

func (g *registry) each(f func(id string, up, down int64)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, n := range g.live {
		f(id, n.Load(), 2*n.Load())
	}
}

func bytesUp(t testing.TB, m *Metrics) (total float64) {
	t.Helper()
	for _, line := range with(scrape(t, m), "proxyd_tunnel_bytes_total") {
		if strings.Contains(line, `direction="up"`) {
			v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				t.Fatal(err)
			}
			total += v
		}
	}
	return total
}

// However tunnels open, carry and end while scrapes run, no total falls, and
// none has more bytes than were carried; in the end each byte is there once.
func TestBytesOfLiveTunnels(t *testing.T) {
	t.Parallel()
	g := &registry{live: map[string]*atomic.Int64{}}
	m := New(Options{Tunnels: g.each})
	var carried atomic.Int64
	var work, scrapes sync.WaitGroup
	done := make(chan struct{})
	for w := range 8 {
		work.Go(func() {
			for i := range 400 {
				r := tunnel.Record{Event: tunnel.Opened, Opening: opening(fmt.Sprint(w, "-", i), "binance", catalog.KindWebsocket, "tokyo-1")}
				n := &atomic.Int64{}
				g.mu.Lock()
				g.live[r.ID] = n
				g.mu.Unlock()
				m.Observe(&r)
				for range rand.IntN(20) {
					k := rand.Int64N(5000)
					carried.Add(k) // before it can be seen
					n.Add(k)
				}
				r.Event, r.Reason, r.Up, r.Down = tunnel.Ended, "eof", n.Load(), 2*n.Load()
				m.Observe(&r)
				g.mu.Lock()
				delete(g.live, r.ID)
				g.mu.Unlock()
			}
		})
	}
	for range 3 {
		scrapes.Go(func() {
			last := 0.0
			for {
				now := bytesUp(t, m)
				if most := float64(carried.Load()); now < last || now > most {
					t.Errorf("a scrape shows %v bytes after %v, of %v", now, last, most)
					return
				}
				last = now
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	work.Wait()
	close(done)
	scrapes.Wait()
	if got, want := bytesUp(t, m), float64(carried.Load()); got != want {
		t.Errorf("%v bytes in the end, want %v", got, want)
	}
	want := []string{`proxyd_tunnels_active{exchange="binance",kind="websocket",upstream="tokyo-1"} 0`}
	if diff := cmp.Diff(want, with(scrape(t, m), "proxyd_tunnels_active")); diff != "" {
		t.Error(diff)
	}
}

// A listing that is older than what is counted already takes nothing back.
func TestStaleListingIsNotCounted(t *testing.T) {
	t.Parallel()
	m := New(Options{})
	r := tunnel.Record{Event: tunnel.Opened, Opening: opening("x", "binance", catalog.KindWebsocket, "tokyo-1")}
	check := func(step string, want float64) {
		t.Helper()
		if got := bytesUp(t, m); got != want {
			t.Errorf("%s: %v bytes, want %v", step, got, want)
		}
	}
	m.progress("x", 10, 0)
	check("listed before it is opened", 0)
	m.Observe(&r)
	m.progress("x", 100, 0)
	m.progress("x", 60, 0)
	check("an older listing", 100)
	m.progress("x", 130, 0)
	check("a newer one", 130)
	r.Event, r.Up = tunnel.Ended, 120 // less than was listed: counted while still in a pipe
	m.Observe(&r)
	check("the end", 130)
	m.progress("x", 150, 0)
	check("listed after its end", 130)
}

// What a tunnel carried in another process is not counted again, nor is it a
// request.
func TestAdopt(t *testing.T) {
	t.Parallel()
	m := New(Options{Tunnels: func(each func(string, int64, int64)) { each("old-1", 1_000_500, 7) }})
	r := tunnel.Record{Opening: opening("old-1", "binance", catalog.KindWebsocket, "tokyo-1"), Up: 1_000_000, Down: 7}
	m.Adopt(r)
	lines := scrape(t, m)
	want := []string{
		`proxyd_tunnel_bytes_total{direction="down",exchange="binance",kind="websocket",upstream="tokyo-1"} 0`,
		`proxyd_tunnel_bytes_total{direction="up",exchange="binance",kind="websocket",upstream="tokyo-1"} 500`,
		`proxyd_tunnels_active{exchange="binance",kind="websocket",upstream="tokyo-1"} 1`,
	}
	if diff := cmp.Diff(want, with(lines, "proxyd_tunnel_bytes_total", "proxyd_tunnels_active", "proxyd_requests_total", "proxyd_dial_duration_seconds_count")); diff != "" {
		t.Error(diff)
	}
	r.Event, r.Reason, r.Up = tunnel.Ended, "eof", 1_000_600
	m.Observe(&r)
	m.o.Tunnels = nil
	if got := bytesUp(t, m); got != 600 {
		t.Errorf("%v bytes after its end, want 600", got)
	}
}

// The series of an upstream vanish when it is gone from the configuration and
// its last tunnel has ended, also without a scrape.
func TestSeriesOfRemovedUpstreamAreDeleted(t *testing.T) {
	t.Parallel()
	names := []string{"stays", "leaves"}
	m := New(Options{Upstreams: func() []string { return names }})
	series := func() []string {
		return with(scrape(t, m), "proxyd_tunnels_active", "proxyd_dial_duration_seconds_count", "proxyd_dial_errors_total")
	}
	record := func(event tunnel.Event, id, name string) {
		o := opening(id, "binance", catalog.KindHTTP, name)
		o.Attempts = []failure.Attempt{{Upstream: name, Class: failure.UpstreamRefused}}
		m.Observe(&tunnel.Record{Event: event, Opening: o, Reason: "eof"})
	}
	record(tunnel.Opened, "1", "stays")
	record(tunnel.Opened, "2", "leaves")
	of := func(name string, active int) []string {
		return []string{
			`proxyd_dial_duration_seconds_count{upstream="` + name + `"} 1`,
			`proxyd_dial_errors_total{class="upstream_refused",upstream="` + name + `"} 1`,
			fmt.Sprintf(`proxyd_tunnels_active{exchange="binance",kind="http",upstream="%s"} %d`, name, active),
		}
	}
	names = names[:1]
	m.Reloaded("applied", true, time.Now())
	both := series()
	if len(both) != 6 {
		t.Errorf("with a live tunnel: %v", both)
	}
	record(tunnel.Ended, "2", "leaves")
	if diff := cmp.Diff(of("stays", 1), series()); diff != "" {
		t.Error("after its last tunnel\n" + diff)
	}
	record(tunnel.Refused, "3", "leaves") // a dial that was under way
	m.Reloaded("applied", true, time.Now())
	if len(m.upstreams) != 1 || len(m.feeds) != 1 {
		t.Errorf("%d upstreams and %d feeds are kept without a scrape", len(m.upstreams), len(m.feeds))
	}
	record(tunnel.Ended, "1", "stays")
	if diff := cmp.Diff(of("stays", 0), series()); diff != "" {
		t.Error("one that stays\n" + diff)
	}
}

func BenchmarkObserve(b *testing.B) {
	m := New(Options{Upstreams: func() []string { return []string{"tokyo-1"} }})
	o := opening("a-1", "binance", catalog.KindWebsocket, "tokyo-1")
	o.Attempts = []failure.Attempt{{Upstream: "tokyo-2", Class: failure.UpstreamRefused}}
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: o})
		m.Observe(&tunnel.Record{Event: tunnel.Ended, Opening: o, Reason: "eof", Up: 10, Down: 10})
	}
}

func BenchmarkScrape10000Tunnels(b *testing.B) {
	g := &registry{live: map[string]*atomic.Int64{}}
	m := New(Options{Tunnels: g.each})
	for i := range 10000 {
		o := opening(fmt.Sprint(i), "binance", catalog.KindWebsocket, "tokyo-1")
		g.live[o.ID] = &atomic.Int64{}
		m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: o})
	}
	for b.Loop() {
		m.settle()
	}
}
