package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// probing is a market for probe: two exits, of which one is where binance does
// not serve.
type probing struct {
	ca             *testkit.CA
	served, closed *testkit.Venue
	tokyo, newYork *testkit.Proxy
	configPath     string
}

func newProbing(t *testing.T) *probing {
	t.Helper()
	p := &probing{ca: testkit.NewCA(t)}
	p.served, p.closed = testkit.NewVenue(t, p.ca), testkit.NewVenue(t, p.ca)
	p.closed.Answer(testkit.VenueReply{Status: 451, Body: `{"code":0,"msg":"Service unavailable from a restricted location"}`})
	hosts := map[string]string{"*": p.served.Addr}
	p.tokyo = testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", User: "bob", Password: "geheim-7", Hosts: hosts})
	p.newYork = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"api.binance.com": p.closed.Addr, "stream.binance.com": p.closed.Addr, "*": p.served.Addr}})
	p.configPath = file(t, fmt.Sprintf(`
admin: ""
pools:
  asia: {proxies: [{name: tokyo, url: %q}, {name: new-york, url: %q}]}
  spare: {proxies: [{name: spare, url: %q}]}
exchanges: {binance: asia, kraken: {http: asia, websocket: reject}}
`, p.tokyo.URL(), p.newYork.URL(), strings.Replace(p.newYork.URL(), "127.0.0.1", "localhost", 1)))
	return p
}

// run runs probe as a process, which reads SSL_CERT_FILE anew.
func (p *probing) run(t *testing.T, stdin string, args ...string) (out, errOut string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"probe", "-c", p.configPath}, args...)...) //nolint:gosec // this test's own binary
	cmd.Env = append(os.Environ(), asProxyd+"=1", "SSL_CERT_FILE="+p.ca.File)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &o, &e
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(o.String()+e.String(), "geheim") && !strings.Contains(strings.Join(args, " "), "--ok") {
		t.Errorf("a password is printed:\n%s%s", &o, &e)
	}
	return o.String(), e.String(), code
}

func rowsOf(t *testing.T, out string) map[string]probeRow {
	t.Helper()
	var list []probeRow
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	rows := map[string]probeRow{}
	for _, r := range list {
		rows[strings.TrimSpace(r.Upstream+" "+r.Exchange+" "+r.Kind)] = r
	}
	return rows
}

func TestProbe(t *testing.T) {
	p := newProbing(t)
	out, errOut, code := p.run(t, "", "--format", "json")
	if code != 1 || !strings.HasPrefix(errOut, "probing 2 upstreams for binance, kraken: 6 requests, at most 8 at once\n") || !strings.Contains(errOut, "4 of 6 ok") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
	if n := len(p.served.Visits()) + len(p.closed.Visits()); n != 6 {
		t.Errorf("%d requests were made, 6 announced", n)
	}
	rows := rowsOf(t, out)
	for name, want := range map[string]string{
		"tokyo binance http": "ok", "tokyo binance websocket": "ok", "tokyo kraken http": "ok",
		"new-york binance http": "geoblocked", "new-york binance websocket": "geoblocked", "new-york kraken http": "ok",
	} {
		if rows[name].Verdict != want {
			t.Errorf("%s: %+v, want %s", name, rows[name], want)
		}
	}
	if len(rows) != 6 {
		t.Errorf("got %d rows\n%s", len(rows), out)
	}
	ws, rest := rows["tokyo binance websocket"], rows["new-york binance http"]
	if ws.TCP == nil || ws.Proxy == nil || ws.TLS == nil || ws.Upgrade == nil || ws.Message == nil || ws.HTTP != nil || ws.DNS != nil || ws.Total <= 0 || ws.Status != 101 {
		t.Errorf("the steps of a feed: %+v", ws)
	}
	if rest.HTTP == nil || rest.Upgrade != nil || rest.Status != 451 || !strings.Contains(rest.Text, "Binance") {
		t.Errorf("the steps of a refused request: %+v", rest)
	}

	out, _, code = p.run(t, "", "--kind", "ws", "BINANCE")
	if code != 1 || strings.Count(out, "\n") != 3 || !strings.Contains(out, "geoblocked") || !strings.Contains(out, "MESSAGE") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if _, errOut, code = p.run(t, "", "kraken"); code != 0 || !strings.Contains(errOut, "2 of 2 ok") {
		t.Errorf("all are ok, exit code %d\n%s", code, errOut)
	}
	out, errOut, code = p.run(t, "", "--all", "--format", "json", "binance", "kraken")
	resolved := 0 // the name of spare, once for all
	for _, r := range rowsOf(t, out) {
		if r.DNS != nil {
			resolved++
		}
	}
	if rows := rowsOf(t, out); code != 1 || len(rows) != 12 || resolved != 1 || rows["spare kraken websocket"].Verdict != "ok" {
		t.Errorf("the grid: exit code %d\n%s%s", code, out, errOut)
	}
}

func TestProbeReportsFailedStep(t *testing.T) {
	p := newProbing(t)
	p.tokyo.SetFault(testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(2)))
	p.newYork.Stop()
	out, _, code := p.run(t, "", "--kind", "http", "binance")
	if code != 1 || !strings.Contains(out, "upstream_denied") || !strings.Contains(out, "upstream_refused") || !strings.Contains(out, "new-york: is the proxy running at that address?") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	_, errOut, code := p.run(t, "", "--kind", "websocket", "kraken")
	if code != 1 || !strings.Contains(errOut, "no upstream is used for kraken") {
		t.Errorf("what is refused: exit code %d\n%s", code, errOut)
	}
}

// An interception is detected, and its authority named.
func TestProbeDetectsInterception(t *testing.T) {
	p := newProbing(t)
	p.ca = testkit.NewCA(t) // what the system trusts is another one
	out, _, code := p.run(t, "", "--kind", "http", "kraken")
	if code != 1 || !strings.Contains(out, "upstream_tls") || !strings.Contains(out, `signed by "proxyd test CA"`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestProbeExitIP(t *testing.T) {
	p := newProbing(t)
	p.served.Answer(testkit.VenueReply{Body: "203.0.113.7"})
	out, errOut, code := p.run(t, "", "--exit-ip", "https://ip.example/", "--format", "json")
	rows := rowsOf(t, out)
	if code != 0 || len(rows) != 2 || rows["tokyo"].ExitIP != "203.0.113.7" || rows["new-york"].Verdict != "ok" || !strings.HasPrefix(errOut, "requesting ip.example through 2 upstreams: 2 requests") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	if out, _, code := p.run(t, "", "--exit-ip", "https://ip.example/", "--all"); code != 0 || strings.Count(out, "203.0.113.7") != 3 {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// What a running daemon knows to be rate-limited is left alone.
func TestProbeSkipsRateLimited(t *testing.T) {
	p := newProbing(t)
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "proxyd")
		_, _ = io.WriteString(w, `{"upstreams":[{"name":"tokyo","verdicts":[{"exchange":"kraken","kind":"http","verdict":"rate_limited","until":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"}]}]}`)
	}))
	defer daemon.Close()
	address := strings.TrimPrefix(daemon.URL, "http://")
	out, errOut, code := p.run(t, "", "--admin", address, "--format", "json", "kraken")
	r := rowsOf(t, out)["tokyo kraken http"]
	if code != 1 || r.Verdict != "rate_limited" || !r.Skipped || r.Until == nil || len(p.served.Visits()) != 1 || !strings.Contains(errOut, "1 request, at most 8 at once; 1 rate-limited skipped (--force") {
		t.Errorf("exit code %d, %d requests\n%s%s", code, len(p.served.Visits()), out, errOut)
	}
	if _, errOut, code := p.run(t, "", "--admin", address, "--force", "kraken"); code != 0 || !strings.Contains(errOut, "2 of 2 ok") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
}

// A 403 that may be about the probe alone is no verdict while the running daemon
// has a feed of the exchange through the same upstream.
func TestProbeBlockedBesideLiveFeed(t *testing.T) {
	p := newProbing(t)
	p.served.Answer(testkit.VenueReply{Status: http.StatusForbidden})
	feed := `{"exchange":"kraken","kind":"websocket","upstream":"tokyo","tunnels":1}`
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "proxyd")
		_, _ = io.WriteString(w, `{"upstreams":[],"tunnels":[`+feed+`]}`)
	}))
	defer daemon.Close()
	out, errOut, _ := p.run(t, "", "--admin", strings.TrimPrefix(daemon.URL, "http://"), "--format", "json", "kraken")
	rows := rowsOf(t, out)
	if r := rows["tokyo kraken http"]; r.Verdict != "unknown" || !strings.Contains(r.Text, "a feed of kraken lives through it all the same") {
		t.Errorf("with a feed: %+v\n%s", r, errOut)
	}
	if r := rows["new-york kraken http"]; r.Verdict != "blocked" {
		t.Errorf("without one: %+v\n%s", r, errOut)
	}
}

func TestProbeUsage(t *testing.T) {
	path := file(t, "exchanges: {binance: reject}\n")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"binanse", 2, "not in the catalogue"},
		{"--ok binance", 2, "--list"},
		{"--sha256 00 binance", 2, "--list"},
		{"--list x --all binance", 2, "--all"},
		{"--concurrency 0", 2, "1 to 256"},
		{"--timeout-seconds NaN", 2, "0.1 to 300"},
		{"--kind ftp", 2, "ftp"},
		{"--format xml", 2, "text, json"},
		{"--exit-ip ip.example", 2, "https://"},
		{"--list /nonexistent/list binance", 1, "/nonexistent/list"},
		{"binance", 1, "no upstream is used for binance"},
		{"-c /nonexistent/proxyd.yaml", 1, "/nonexistent/proxyd.yaml"},
	} {
		out, errOut, code := call(append([]string{"probe", "-c", path}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(out+errOut, c.says) {
			t.Errorf("%s: exit code %d, want %d and %q in\n%s%s", c.args, code, c.code, c.says, out, errOut)
		}
	}
	if _, errOut, code := call("probe", "-c", file(t, "default: direct\n")); code != 2 || !strings.Contains(errOut, "name some") {
		t.Errorf("nothing to probe: exit code %d\n%s", code, errOut)
	}
}
