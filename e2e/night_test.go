package e2e

import (
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// trouble is one thing that goes wrong at a desk.
type trouble struct {
	name   string
	within time.Duration // line 1 shows it; 0: a minute
	happen func(t *testing.T, d *desk)
	end    func(t *testing.T, d *desk)
	words  []string // of line 1
	dated  bool     // line 1 holds the time at which it began
}

var untilWhen = regexp.MustCompile(`\((\d+) until `)

const cured = 10 * time.Second

// night has the troubles happen one after another.
func (d *desk) night(t *testing.T, list []trouble) {
	for _, tr := range list {
		if !t.Run(tr.name, func(t *testing.T) {
			within := tr.within
			if within == 0 {
				within = time.Minute
			}
			began := time.Now()
			tr.happen(t, d)
			line := d.shows(t, began, within, tr.words...)
			shown := time.Since(began)
			if tr.dated {
				dated(t, line, began)
			}
			for _, m := range untilWhen.FindAllStringSubmatch(line, -1) {
				if n, _ := strconv.Atoi(m[1]); n > d.clients["okx"].n {
					t.Errorf("there never were %d tunnels of an exchange: %s", n, line)
				}
			}
			documented(t, tr)
			tr.end(t, d)
			t.Logf("shown after %.1f s, ok %.1f s after its end: %s", shown.Seconds(), d.well(t, cured).Seconds(), line)
		}) {
			return
		}
	}
}

// documented wants the trouble in the table of docs/runbook.md, with its words.
func documented(t *testing.T, tr trouble) {
	t.Helper()
	text, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	_, row, _ := strings.Cut(string(text), "\n| "+tr.name+" |")
	row, _, _ = strings.Cut(row, "\n")
	for _, w := range tr.words {
		if !strings.Contains(row, strings.TrimSpace(w)) {
			t.Errorf("the row of %q in docs/runbook.md lacks %q", tr.name, w)
		}
	}
}

func (d *desk) save(t *testing.T, yaml string) {
	t.Helper()
	saving(withListen(yaml))(t, d.File)
}

// nights are desks with feeds, and what goes wrong there. They run together, and
// beside no other test: their feeds use all of a small machine.
var nights = map[string]func(*testing.T){
	"file":      nightOfTheFile,
	"upstreams": nightOfTheUpstreams,
	"exchanges": nightOfTheExchanges,
	"silence":   nightOfSilence,
}

// Promise (data path): a file with an error, or without an entry, changes nothing for feeds that run, and line 1 says so within a second.
//
// Promise (feeds): whatever goes wrong with the file, an upstream, an exchange or this machine, line 1 names exchange, kind, upstream, cause and since when within a minute, and is ok ten seconds after its repair.
func TestNight(t *testing.T) {
	for name, night := range nights {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			night(t)
		})
	}
}

// What goes wrong with the file.
func nightOfTheFile(t *testing.T) {
	d := newDesk(t, 40, "", "watch: true\n")
	good := d.config(d.pools(nil), d.entries(""))
	restore := func(t *testing.T, d *desk) { d.save(t, good) }
	d.night(t, []trouble{
		{
			name: "typo in the file", within: soon, // a second, and what a busy machine takes
			happen: func(t *testing.T, d *desk) {
				d.save(t, strings.Replace(good, "websocket: osaka", "websocket: osakka", 1))
			},
			words: []string{"FILE NOT IN FORCE: ", "proxyd.yaml:", "exchanges.okx.websocket: there is no pool of that name"},
			end:   restore,
		},
		{
			name: "entry deleted, no default", within: soon,
			happen: func(t *testing.T, d *desk) { d.save(t, d.config(d.pools(nil), d.entries("okx"))) },
			words:  []string{"FILE NOT IN FORCE: ", "okx"},
			end:    restore,
		},
	})
}

// What goes wrong at an upstream.
func nightOfTheUpstreams(t *testing.T) {
	d := newDesk(t, 200, "", "")
	expired := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "https", TLS: d.ca.ExpiredServer(t, "osaka-1.test")})
	soon := testkit.NewProxy(t, testkit.ProxyOptions{
		Scheme: "https", TLS: d.ca.ServerUntil(t, time.Now().Add(72*time.Hour), "osaka-1.test"), Hosts: d.hosts,
	})
	d.night(t, []trouble{
		{
			name:   "upstream dies",
			happen: func(_ *testing.T, d *desk) { d.gates["osaka-1"].die() },
			words:  []string{"BAD: okx websocket: 0 tunnels (40 until ", "upstream_refused by osaka-1"}, dated: true,
			end: func(t *testing.T, d *desk) { d.gates["osaka-1"].revive(t) },
		},
		{
			name: "upstream answers 407",
			happen: func(_ *testing.T, d *desk) {
				d.proxies["frankfurt-1"].SetFault(testkit.On(testkit.AtRequest, testkit.Answer("407 Proxy Authentication Required", "", "Proxy-Authenticate: Basic realm=x")))
				d.gates["frankfurt-1"].drop()
			},
			words: []string{"BAD: bybit websocket, kraken websocket: 0 tunnels, 80 lost, since ", ": upstream_auth by frankfurt-1"}, dated: true,
			end: func(_ *testing.T, d *desk) { d.proxies["frankfurt-1"].SetFault(nil) },
		},
		{
			name: "upstreams answer 403 for one exchange",
			happen: func(_ *testing.T, d *desk) {
				for name, refuse := range map[string]func(net.Conn){"tokyo-1": testkit.Answer("403 Forbidden", "not this one"), "tokyo-2": testkit.SOCKS5Reply(2)} {
					d.proxies[name].SetFault(&testkit.Fault{At: testkit.AtRequest, Do: refuse, Host: "fstream.binance.com"})
				}
				d.drop("binance_futures")
			},
			words: []string{"BAD: binance_futures websocket: 0 tunnels (40 until ", "upstream_denied by tokyo-1, tokyo-2"}, dated: true,
			end: func(_ *testing.T, d *desk) {
				d.proxies["tokyo-1"].SetFault(nil)
				d.proxies["tokyo-2"].SetFault(nil)
			},
		},
		{
			name: "certificate expired",
			happen: func(_ *testing.T, d *desk) {
				d.gates["osaka-1"].forward(expired.Addr)
				d.gates["osaka-1"].drop()
			},
			words: []string{"BAD: okx websocket: 0 tunnels (40 until ", "upstream_tls by osaka-1"}, dated: true,
			end: func(_ *testing.T, d *desk) { d.gates["osaka-1"].forward(d.proxies["osaka-1"].Addr) },
		},
		{
			name: "certificate expires soon",
			happen: func(_ *testing.T, d *desk) {
				d.gates["osaka-1"].forward(soon.Addr)
				d.gates["osaka-1"].drop()
			},
			words: []string{"DEGRADED: the certificate of upstream osaka-1 expires at "},
			end: func(_ *testing.T, d *desk) {
				d.gates["osaka-1"].forward(d.proxies["osaka-1"].Addr)
				d.gates["osaka-1"].drop()
			},
		},
	})
}

// What goes wrong at an exchange: inside TLS, where proxyd sees bytes only.
func nightOfTheExchanges(t *testing.T) {
	d := newDesk(t, 200, "", "watch: true\ndefault: reject\n")
	says := func(exchange string, r testkit.VenueReply) func(*testing.T, *desk) {
		return func(_ *testing.T, d *desk) {
			d.venues[exchange].Answer(r)
			d.drop(exchange)
		}
	}
	well := testkit.VenueReply{Ticks: true}
	d.night(t, []trouble{
		{
			name: "exchange answers 429", happen: says("okx", testkit.VenueReply{Status: 429}),
			words: []string{"BAD: okx websocket: ", "osaka-1"}, dated: true,
			end: func(_ *testing.T, d *desk) { d.venues["okx"].Answer(well) },
		},
		{
			name: "exchange answers 451, without a check", happen: says("kraken", testkit.VenueReply{Status: 451}),
			words: []string{"BAD: kraken websocket: ", "frankfurt-1"}, dated: true,
			end: func(_ *testing.T, d *desk) { d.venues["kraken"].Answer(well) },
		},
		{
			name: "exchange closes without an answer", happen: says("bybit", testkit.VenueReply{Drop: true}),
			words: []string{"BAD: bybit websocket: ", "frankfurt-1"}, dated: true,
			end: func(_ *testing.T, d *desk) { d.venues["bybit"].Answer(well) },
		},
		{
			name: "entry deleted, default: reject",
			happen: func(t *testing.T, d *desk) {
				d.save(t, d.config(d.pools(nil), d.entries("okx")))
				time.Sleep(time.Second)
				d.drop("okx")
			},
			words: []string{"BAD: okx websocket: 0 tunnels (40 until ", "denied"}, dated: true,
			end: func(t *testing.T, d *desk) { d.save(t, d.config(d.pools(nil), d.entries(""))) },
		},
	})
}

// Tunnels stay open and carry nothing but the exchange's answers to pings.
func nightOfSilence(t *testing.T) {
	const window = 5 * time.Second
	d := newDesk(t, 200, "", "silence: {window_seconds: 5, bytes: 500}\n")
	frozen := func(exchange string, on bool) {
		d.venues[exchange].Answer(testkit.VenueReply{Ticks: true, Quiet: on})
	}
	d.night(t, []trouble{
		{
			name: "upstream passes no data on", within: window + 3*time.Second,
			happen: func(_ *testing.T, d *desk) { d.gates["frankfurt-1"].hush() },
			words:  []string{"BAD: ", "bybit websocket", "kraken websocket", "frankfurt-1", "since "}, dated: true,
			end: func(_ *testing.T, d *desk) { d.gates["frankfurt-1"].speak() },
		},
		{
			name: "exchange sends nothing", within: window + 3*time.Second,
			happen: func(*testing.T, *desk) { frozen("binance_futures", true) },
			words:  []string{"BAD: binance_futures websocket: ", "since "}, dated: true,
			end: func(*testing.T, *desk) { frozen("binance_futures", false) },
		},
		{
			name: "exchange or its only upstream passes no data on", within: window + 3*time.Second,
			happen: func(*testing.T, *desk) { frozen("okx", true) },
			words:  []string{"BAD: okx websocket: ", "cannot tell okx from osaka-1", "since "}, dated: true,
			end: func(*testing.T, *desk) { frozen("okx", false) },
		},
		{
			name: "network of this machine fails", within: window + 3*time.Second,
			happen: func(_ *testing.T, d *desk) {
				for _, g := range d.gates {
					g.hush()
				}
			},
			words: []string{"BAD: ", "this machine's network", "since "}, dated: true,
			end: func(_ *testing.T, d *desk) {
				for _, g := range d.gates {
					g.speak()
				}
			},
		},
	})
}
