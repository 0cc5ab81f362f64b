package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// desk is what an operator has at night: a daemon between websocket clients and
// exchanges, through upstreams that fail.
type desk struct {
	*process
	socket  string
	keys    string            // of the configuration, beside exchanges and pools
	hosts   map[string]string // where the upstreams find the exchanges
	ca      *testkit.CA
	gates   map[string]*gate          // by the upstream's name
	proxies map[string]*testkit.Proxy // behind them
	venues  map[string]*testkit.Venue // by exchange
	clients map[string]*feedClients   // by exchange
}

// deskExchange is an exchange with the upstreams that carry it.
type deskExchange struct {
	id, host, pool string
}

// deskExchanges are those of every desk: two share a pool of two members, two
// share another of one, and one has its own.
var deskExchanges = []deskExchange{
	{"binance_futures", "fstream.binance.com", "tokyo"},
	{"binance", "stream.binance.com", "tokyo"},
	{"okx", "ws.okx.com", "osaka"},
	{"kraken", "ws.kraken.com", "frankfurt"},
	{"bybit", "stream.bybit.com", "frankfurt"},
}

// deskPools are the members of the pools: name and scheme.
var deskPools = map[string][][2]string{
	"tokyo":     {{"tokyo-1", "http"}, {"tokyo-2", "socks5"}},
	"osaka":     {{"osaka-1", "https"}},
	"frankfurt": {{"frankfurt-1", "http"}},
}

// newDesk starts the peers, a daemon with more keys, and n clients, and waits until
// all of it is well. Before is a line of shell that runs first.
func newDesk(t *testing.T, n int, before, keys string) *desk {
	t.Helper()
	d := preparedDesk(t, keys)
	d.process = launch(t, before, d.config(d.pools(nil), d.entries("")))
	d.open(t, n)
	return d
}

// preparedDesk is a desk without a daemon.
func preparedDesk(t *testing.T, keys string) *desk {
	t.Helper()
	d := &desk{
		socket: filepath.Join(t.TempDir(), "admin"), keys: keys, ca: testkit.NewCA(t),
		gates: map[string]*gate{}, proxies: map[string]*testkit.Proxy{}, venues: map[string]*testkit.Venue{}, clients: map[string]*feedClients{},
	}
	hosts := map[string]string{}
	d.hosts = hosts
	for _, e := range deskExchanges {
		v := testkit.NewVenue(t, d.ca)
		v.Answer(testkit.VenueReply{Ticks: true})
		d.venues[e.id], hosts[e.host] = v, v.Addr
	}
	hosts["leak.example"] = testkit.NewTCP(t, testkit.Hang).Addr
	for _, members := range deskPools {
		for _, m := range members {
			p := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: m[1], Hosts: hosts, TLS: d.ca.Server(t)})
			d.proxies[m[0]], d.gates[m[0]] = p, newGate(t, p.Addr)
		}
	}
	return d
}

// config returns a file with these pools and entries.
func (d *desk) config(pools, entries string) string {
	return fmt.Sprintf("admin: unix:%s\n%s%s%s", d.socket, d.keys, pools, entries)
}

// pools returns the key, with another address for some upstreams.
func (d *desk) pools(address map[string]string) string {
	text := "pools:\n"
	for _, name := range []string{"tokyo", "osaka", "frankfurt"} {
		text += "  " + name + ":\n    eject: {base_seconds: 1, max_seconds: 2}\n    proxies:\n"
		for _, m := range deskPools[name] {
			at := address[m[0]]
			if at == "" {
				at = d.gates[m[0]].addr
			}
			text += fmt.Sprintf("      - {name: %s, url: \"%s://%s\"", m[0], m[1], at)
			if m[1] == "https" {
				text += fmt.Sprintf(", tls: {ca_file: %q, server_name: %s.test}", d.ca.File, m[0])
			}
			text += "}\n"
		}
	}
	return text
}

// entries returns the key exchanges, without one of them.
func (d *desk) entries(without string) string {
	text := "exchanges:\n"
	for _, e := range deskExchanges {
		if e.id != without {
			text += "  " + e.id + ": {websocket: " + e.pool + "}\n"
		}
	}
	return text
}

// open starts n clients in all, the same number for each exchange.
func (d *desk) open(t *testing.T, n int) {
	t.Helper()
	for _, e := range deskExchanges {
		d.clients[e.id] = startClients(t, d.Addr, d.ca, e.id, e.host, n/len(deskExchanges))
	}
	d.well(t, time.Minute)
}

// well waits until every client has its feed and line 1 is ok, and returns how
// long it took.
func (d *desk) well(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	news := ""
	for ; ; time.Sleep(50 * time.Millisecond) {
		if news = d.readyz(t); news == "ready\n" && d.served() {
			return time.Since(start)
		}
		if time.Since(start) > within {
			break
		}
	}
	for _, c := range d.clients {
		t.Log(c)
	}
	status, _ := d.command(t, "status")
	t.Fatalf("it is not ok after %v: %s\n%s", within, news, status)
	return 0
}

// served reports whether every client has its feed.
func (d *desk) served() bool {
	for _, c := range d.clients {
		if int(c.live.Load()) != c.n {
			return false
		}
	}
	return true
}

func (d *desk) readyz(t *testing.T) string {
	t.Helper()
	return d.admin(t, d.socket, "/readyz")
}

// drop ends the live tunnels of an exchange, as an exchange does at the beginning
// of a fault.
func (d *desk) drop(exchange string) { d.venues[exchange].ResetAll() }

var clock = regexp.MustCompile(`\b\d\d:\d\d(:\d\d)?\b`)

// shows waits until line 1 of /readyz holds all of these words, and returns it. It
// wants the same of the command.
func (d *desk) shows(t *testing.T, since time.Time, within time.Duration, words ...string) string {
	t.Helper()
	news := ""
	for ; time.Since(since) < within; time.Sleep(50 * time.Millisecond) {
		news = d.readyz(t)
		if line := firstWith(strings.TrimPrefix(news, "ready, but:\n"), words); line != "" {
			out, _ := d.command(t, "status")
			if firstWith(out, words) == "" && firstWith(strings.TrimPrefix(d.readyz(t), "ready, but:\n"), words) == "" {
				continue // something worse came in between
			}
			if firstWith(out, words) == "" {
				t.Errorf("status does not show what /readyz does, %q:\n%s", line, out)
			}
			return line
		}
	}
	for _, c := range d.clients {
		t.Log(c)
	}
	status, _ := d.command(t, "status")
	t.Fatalf("no line with %q after %v: %s\n%s", words, within, news, status)
	return ""
}

// firstWith returns the first line of a text if it holds all of these words.
func firstWith(text string, words []string) string {
	line, _, _ := strings.Cut(text, "\n")
	for _, w := range words {
		if !strings.Contains(line, w) {
			return ""
		}
	}
	return line
}

// dated wants a time in a line that is that of the error. A silence may have begun a few
// seconds before it, where a busy machine had held up the messages already.
func dated(t *testing.T, line string, since time.Time) {
	t.Helper()
	text := clock.FindString(line)
	at, err := time.ParseInLocation(time.DateOnly+" 15:04:05", since.Format(time.DateOnly)+" "+text, time.Local)
	early := 2 * time.Second
	if strings.Contains(line, "silent") {
		early = 5 * time.Second
	}
	if err != nil || at.Before(since.Add(-early)) || at.After(time.Now()) {
		t.Errorf("since when? %q, it began at %s", line, since.Format(time.TimeOnly))
	}
}
