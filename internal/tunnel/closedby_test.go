package tunnel_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
)

// proxyTo names the variable that makes this program a proxy which leads to one
// address whatever it is asked for: a process that can be killed.
const proxyTo = "PROXYD_TEST_PROXY_TO"

func runProxy(to string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(1)
	}
	fmt.Println(ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() { // ends with the process
			r := bufio.NewReader(c)
			server, err := net.Dial("tcp", to)
			if _, ask := http.ReadRequest(r); err != nil || ask != nil {
				os.Exit(1)
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			go func() { _, _ = io.Copy(server, r) }()
			_, _ = io.Copy(c, server)
			_ = c.Close()
		}()
	}
}

// killable starts a proxy process and returns its URL and what kills it.
func killable(t *testing.T, to string) (url string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), proxyTo+"="+to)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + strings.TrimSpace(addr), kill
}

// world is two upstreams, tokyo and osaka, and a server that all exchanges are at.
type world struct {
	*host
	t            *testing.T
	server       net.Listener
	tokyo, osaka *testkit.Proxy
}

func newWorld(t *testing.T, o testkit.ProxyOptions, tokyo string) *world {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	w := &world{t: t, server: ln}
	o.Hosts = map[string]string{"*": ln.Addr().String()}
	w.tokyo, w.osaka = testkit.NewProxy(t, o), testkit.NewProxy(t, o)
	if tokyo == "" {
		tokyo = w.tokyo.URL()
	}
	w.start(tokyo)
	return w
}

func (w *world) start(tokyo string) {
	member := func(name, url string) string {
		tls := ""
		if strings.HasPrefix(url, "https:") {
			tls = ", tls: {insecure: true}"
		}
		return fmt.Sprintf("  %s: {proxies: [{name: %[1]s-1, url: '%s'%s}]}\n", name, url, tls)
	}
	w.host = newHost(w.t, "pools:\n"+member("tokyo", tokyo)+member("osaka", w.osaka.URL())+"routes:\n"+
		"- {hosts: [stream.binance.com, ws.okx.com, api.bybit.com], use: tokyo}\n- {hosts: [stream.bybit.com], use: osaka}\ndefault: direct\n")
}

// to opens a tunnel to a host and returns it with both far ends.
func (w *world) to(host string) ends {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer ln.Close()
	var e ends
	var near *net.TCPConn
	e.client, near = w.pair(ln)
	client, _ := netip.ParseAddrPort(e.client.LocalAddr().String())
	if e.tunnel, err = w.Open(w.t.Context(), tunnel.Request{Client: client, Protocol: "connect", Host: host, Port: 443}); err != nil {
		w.t.Fatal(err)
	}
	server, err := w.server.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	e.server = server.(*net.TCPConn)
	w.t.Cleanup(func() { _ = e.server.Close() })
	e.tunnel.Carry(near, nil)
	say(w.t, e.client, e.server, "up")
	say(w.t, e.server, e.client, "down")
	for _, c := range []*net.TCPConn{e.client, e.server} {
		go func() { // each closes when the other side has; ends with the tunnel
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}()
	}
	return e
}

// want waits for the records of some tunnels, and checks who ended them.
func (w *world) want(by string, list ...ends) {
	w.t.Helper()
	for _, e := range list {
		var got tunnel.Record
		testkit.Eventually(w.t, testkit.Patience, "the record of an end", func() bool {
			for _, r := range w.recorded(tunnel.Ended) {
				if r.ID == e.tunnel.ID() {
					got = r
				}
			}
			return got.ID != ""
		})
		if got.ClosedBy != by {
			w.t.Errorf("%s through %s, %s: closed by %q, want %q", got.Host, got.Upstream, got.Reason, got.ClosedBy, by)
		}
	}
}

const (
	binance = "stream.binance.com"
	okx     = "ws.okx.com"
	bybit   = "stream.bybit.com"
)

// TestClosedByNamesTheSideThatEnded: a tunnel's record says whether the client, the upstream, the
// exchange or proxyd ended it.
//
// Promise (data path): an upstream that dies stands in the record as the one who
// ended its tunnels, and an exchange that closes one as the one who ended that.
func TestClosedByNamesTheSideThatEnded(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	for _, scheme := range []string{"http", "socks5", "https"} {
		o := testkit.ProxyOptions{Scheme: scheme}
		if scheme == "https" {
			o.TLS = ca.Server(t, "127.0.0.1")
		}
		for name, test := range map[string]func(w *world){
			"the client closes": func(w *world) {
				a, _ := w.to(binance), w.to(okx)
				_ = a.client.Close()
				w.want(tunnel.ByClient, a)
			},
			"proxyd closes": func(w *world) {
				a := w.to(binance)
				w.Each(func(l tunnel.Live) bool { return l.CloseFor("silence") })
				w.want(tunnel.ByProxyd, a)
			},
			"the exchange closes one of many": func(w *world) {
				a, b := w.to(binance), w.to(binance)
				w.to(okx)
				_ = a.server.Close()
				w.want(tunnel.ByExchange, a)
				_ = b.server.SetLinger(0)
				_ = b.server.Close()
				w.want(tunnel.ByExchange, b)
			},
			"the exchange closes the only one": func(w *world) {
				a := w.to(binance)
				_ = a.server.Close()
				w.want(tunnel.ByExchange, a)
			},
			"the exchange closes all of its own": func(w *world) {
				a, b, _ := w.to(binance), w.to(binance), w.to(okx)
				_, _ = a.server.Close(), b.server.Close()
				w.want(tunnel.ByExchange, a, b)
			},
			"the upstream drops all, of two exchanges": func(w *world) {
				a, b, c := w.to(binance), w.to(binance), w.to(okx)
				w.tokyo.ResetAll()
				w.want(tunnel.ByUpstream, a, b, c)
			},
			"the upstream drops all, of one exchange that goes on elsewhere": func(w *world) {
				a, b := w.to(bybit), w.to(bybit)
				w.to("api.bybit.com")
				w.osaka.ResetAll()
				w.want(tunnel.ByUpstream, a, b)
			},
			"all of one exchange end, which is nowhere else": func(w *world) {
				a, b, _ := w.to(bybit), w.to(bybit), w.to(okx)
				w.osaka.ResetAll()
				w.want(tunnel.ByExchange, a, b)
			},
			"the upstream dies with its only one": func(w *world) {
				a := w.to(binance)
				w.tokyo.Stop()
				w.want(tunnel.ByUpstream, a)
			},
			"the upstream dies": func(w *world) {
				a, b, other := w.to(binance), w.to(okx), w.to(bybit)
				w.tokyo.Stop()
				w.want(tunnel.ByUpstream, a, b)
				_ = other.server.Close()
				w.want(tunnel.ByExchange, other)
			},
		} {
			t.Run(scheme+", "+name, func(t *testing.T) {
				t.Parallel()
				test(newWorld(t, o, ""))
			})
		}
	}
}

// TestClosedByExchangeWithoutAProxy: without a proxy, all that the far side does is the exchange's.
func TestClosedByExchangeWithoutAProxy(t *testing.T) {
	t.Parallel()
	h := newHost(t, toLoopback)
	w := &world{t: t, host: h}
	fin, rst, client := h.open(""), h.open(""), h.open("")
	_, _ = fin.server.Close(), fin.client.Close()
	_ = rst.server.SetLinger(0)
	_ = rst.server.Close()
	w.want(tunnel.ByExchange, rst)
	testkit.Eventually(t, testkit.Patience, "the end", func() bool { return len(h.recorded(tunnel.Ended)) == 2 })
	_ = client.client.Close()
	_, _ = io.Copy(io.Discard, client.server)
	_ = client.server.Close()
	w.want(tunnel.ByClient, client)
}

// TestClosedByKilledUpstream: a proxy process that is killed ends its tunnels, all
// of them, however many exchanges they lead to; what is opened then is its own.
func TestClosedByKilledUpstream(t *testing.T) {
	t.Parallel()
	for _, hosts := range [][]string{{binance}, {binance, binance, binance}, {binance, okx, binance, okx}} {
		t.Run(fmt.Sprint(len(hosts)), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testkit.ProxyOptions{}, "")
			url, kill := killable(t, w.server.Addr().String())
			w.start(url)
			var open []ends
			for i := range 10 {
				open = append(open, w.to(hosts[i%len(hosts)]))
				if i+1 == len(hosts) && len(hosts) == 1 {
					break
				}
			}
			other := w.to(bybit)
			kill()
			w.want(tunnel.ByUpstream, open...)
			_ = other.server.Close()
			w.want(tunnel.ByExchange, other)
		})
	}
}

// TestRecordOfAnEndIsNotDelayed but for what cannot be told at once.
func TestRecordOfAnEndIsNotDelayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.ProxyOptions{}, "")
	a, b := w.to(binance), w.to(okx)
	start := time.Now()
	_ = a.client.Close()
	w.want(tunnel.ByClient, a)
	_ = b.server.Close()
	w.want(tunnel.ByExchange, b)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}
