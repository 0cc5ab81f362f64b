package page

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"proxyd/internal/testkit"
)

// world is an exchange behind two upstreams, and a daemon before them.
type world struct {
	*daemon
	x            *testkit.Exchange
	tokyo, osaka *testkit.Proxy
	yaml         string
}

func newWorld(t *testing.T, more string) *world {
	t.Helper()
	w := &world{x: testkit.NewExchange(t)}
	hosts := map[string]string{"*": w.x.TLS}
	w.tokyo = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: hosts})
	w.osaka = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: hosts, Scheme: "socks5"})
	w.yaml = "watch: true\nhealth_check: {probe_seconds: 0}\n" +
		"pools: {asia: {proxies: [{name: tokyo-1, url: \"" + w.tokyo.URL() + "\"}, {name: osaka-1, url: \"" + w.osaka.URL() + "\"}]}}\n" +
		"exchanges:\n  binance_futures: {http: direct, websocket: asia}\n  okx: asia\n  kraken: asia\ndefault: reject\n" + more
	w.yaml = strings.Replace(w.yaml, "health_check: {probe_seconds: 0}\n", "", 1)
	w.daemon = launch(t, "admin: "+testkit.FreeAddr(t)+"\n"+w.yaml)
	return w
}

const (
	futures = "fstream.binance.com"
	okx     = "ws.okx.com"
)

func TestNewTunnelIsOnThePageWithinASecond(t *testing.T) {
	w := newWorld(t, "")
	b := load(t, w.Page)
	b.shows(2*time.Second, "#news h1", "ok")
	b.shows(time.Second, "main", "no traffic yet")
	w.follow(w.x, futures, "/ticker?ms=50")
	opened := time.Now()
	b.shows(time.Second, "main", "1 (1)")
	t.Logf("after %v", time.Since(opened))
	b.shows(3*time.Second, "main", "B/s")
}

func TestPageWithoutScript(t *testing.T) {
	w := newWorld(t, "")
	w.follow(w.x, futures, "/ticker?ms=50")
	b := newTab(t, w.Page)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.run(chromedp.Navigate(w.Page))
	body := b.text("body")
	for _, want := range []string{"proxyd", "binance_futures", "tokyo-1", "osaka-1", "asia", "Without script"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	if strings.Contains(body, "Overview") {
		t.Error("it shows links that need the script")
	}
}

func TestLostConnectionIsSaidAndComesBack(t *testing.T) {
	w := newWorld(t, "")
	b := load(t, w.Page)
	b.forgive("net::ERR_")
	w.stop()
	b.shows(2*time.Second, "#news h1", "Connection lost since")
	b.shows(time.Second, "#news h1", "showing data as of")
	if !eval[bool](b, "document.body.classList.contains('stale')") {
		t.Error("what is old is not shown in grey")
	}
	launch(t, "admin: "+strings.Trim(w.Page[len("http://"):], "/")+"\n"+w.yaml)
	b.shows(5*time.Second, "#news h1", "ok")
	if eval[bool](b, "document.body.classList.contains('stale')") {
		t.Error("what is new is shown in grey")
	}
}

// There is a limit of streams. Who comes too late asks again and again.
func TestViewerWithoutAStreamSeesWhatHappens(t *testing.T) {
	w := newWorld(t, "")
	for range 16 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.Page+"api/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/event-stream")
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v %v", resp, err)
		}
		defer resp.Body.Close()
	}
	b := newTab(t, w.Page)
	b.forgive("503")
	b.run(chromedp.Navigate(w.Page))
	b.ready()
	w.follow(w.x, futures, "/ticker?ms=50")
	b.shows(5*time.Second, "main", "1 (1)")
}

func TestUpstreamOutOfUseIsOnThePage(t *testing.T) {
	w := newWorld(t, "")
	b := load(t, w.Page)
	w.tokyo.SetFault(testkit.On(testkit.AtAccept, testkit.Close))
	// The daemon ejects it after some failures; from then on the page has two seconds.
	ejected := w.failUntil(t, func() bool { return strings.Contains(w.get("/api/v1/status"), "ejected (for") })
	b.shows(2*time.Second-time.Since(ejected), "main", "ejected (for")
	b.click("main", "tokyo-1")
	b.shows(time.Second, "main", "at least until")
}

// failUntil has clients ask until the daemon has seen enough, and returns when.
func (w *world) failUntil(t *testing.T, done func() bool) time.Time {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if c, err := w.open(w.x, futures, "/ticker?n=1"); err == nil {
			_ = c.CloseNow()
		}
		if time.Now().After(end) {
			t.Fatal("the daemon has not seen it")
		}
	}
	return time.Now()
}

func TestLostExchangeIsLineOneOfThePage(t *testing.T) {
	w := newWorld(t, "")
	b := load(t, w.Page)
	w.follow(w.x, futures, "/ticker?ms=50")
	for _, up := range []*testkit.Proxy{w.tokyo, w.osaka} {
		up.SetFault(testkit.On(testkit.AtRequest, testkit.Close))
		up.ResetAll()
	}
	lost := w.failUntil(t, func() bool { return strings.Contains(w.get("/api/v1/status"), `"state": "lost"`) })
	b.shows(2*time.Second-time.Since(lost), "#news h1", "binance_futures")
	if title := eval[string](b, "document.title"); !strings.HasPrefix(title, "! proxyd: ") || !strings.Contains(title, "binance_futures") {
		t.Errorf("title %q", title)
	}
	b.shows(time.Second, "main tbody tr", "lost") // the first row
	for _, up := range []*testkit.Proxy{w.tokyo, w.osaka} {
		up.SetFault(nil)
	}
	testkit.Eventually(t, 30*time.Second, "a tunnel", func() bool {
		_, err := w.open(w.x, futures, "/ticker?ms=50")
		return err == nil
	})
	b.shows(2*time.Second, "#news h1", "ok")
}

func TestRefusedReloadIsOnThePage(t *testing.T) {
	w := newWorld(t, "")
	b := load(t, w.Page+"#/config")
	b.shows(2*time.Second, "main", "yes, as on disk")
	b.shows(2*time.Second, "main", "binance_futures")
	w.save("listen: 127.0.0.1:0\nadmin: " + strings.Trim(w.Page[len("http://"):], "/") + "\nrouts: {}\n" + w.yaml)
	testkit.Eventually(t, testkit.Patience, "the refusal", func() bool { return strings.Contains(w.log.String(), "reload refused") })
	b.shows(2*time.Second, "#news h1", "routs")
	b.shows(2*time.Second, "main", "refused")
	b.shows(time.Second, "main", "no: the file on disk is not the configuration in force")
}

func TestUpstreamIsDrainedByKeyboard(t *testing.T) {
	w := newWorld(t, "")
	w.follow(w.x, futures, "/ticker?ms=50")
	b := load(t, w.Page)
	b.focus("Configuration") // Tab goes through all that can be used
	b.focus("okx")
	b.focus("tokyo-1")
	b.press(kb.Enter)
	b.shows(time.Second, "h2.title", "tokyo-1")
	b.focus("Drain")
	b.press(kb.Enter)
	b.shows(2*time.Second, "#answer", "no new connections")
	b.shows(2*time.Second, "main", "drained")
	b.shows(time.Second, "main .buttons", "Resume")
	// The focus stays where it is though the page is drawn each second.
	b.focus("Resume")
	time.Sleep(2200 * time.Millisecond)
	if got := b.focused(); got != "Resume" {
		t.Errorf("after two statuses the focus is on %q", got)
	}
	b.press(" ")
	b.shows(2*time.Second, "#answer", "no longer drained")
}

func TestSilentFeedIsLineOneOfThePage(t *testing.T) {
	w := newWorld(t, "silence: {window_seconds: 5, bytes: 100}\n")
	b := load(t, w.Page)
	w.follow(w.x, futures, "/silent")
	testkit.Eventually(t, 30*time.Second, "the event", func() bool { return strings.Contains(w.get("/api/v1/events?since=1h"), `"feed_silent"`) })
	b.shows(2*time.Second, "#news h1", "binance_futures")
	b.shows(time.Second, "main tbody tr", "silent") // the first row
	b.click("main", "all events")
	b.shows(2*time.Second, "main", "feed_silent")
}

func TestClosingTunnelsAsksFirst(t *testing.T) {
	w := newWorld(t, "")
	w.follow(w.x, futures, "/ticker?ms=50")
	b := load(t, w.Page+"#/exchange/binance_futures")
	b.shows(2*time.Second, "main", "Time to open")
	b.shows(2*time.Second, "main", "1 tunnel, as of")
	b.click("main", "Close tunnels…")
	b.shows(time.Second, "#dialog", "Close 1 tunnel")
	if got := b.focused(); got != "Cancel" {
		t.Errorf("the question has the focus on %q", got)
	}
	b.press(kb.Escape)
	b.shows(time.Second, "main", "1 tunnel, as of")
	if strings.Contains(w.get("/api/v1/tunnels"), "[]") {
		t.Fatal("it closed the tunnel without an answer")
	}
	b.click("main", "Close tunnels…")
	b.click("dialog", "Close them")
	b.shows(2*time.Second, "#answer", "done")
	b.shows(2*time.Second, "main", "0 now, 1 at most")
}

// focus presses Tab until what has the focus is called name.
func (b *tab) focus(name string) {
	b.t.Helper()
	var passed []string
	for range 60 {
		got := b.focused()
		if got == name {
			return
		}
		passed = append(passed, got)
		b.press(kb.Tab)
	}
	b.t.Fatalf("Tab does not come to %q: %q", name, passed)
}

func (b *tab) focused() string {
	b.t.Helper()
	return eval[string](b, "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText || document.activeElement.id")
}

func TestLoginWithTheTokenAsPassword(t *testing.T) {
	w := newWorld(t, "")
	at := strings.Trim(w.Page[len("http://"):], "/")
	w.stop()
	d := launch(t, "admin: {address: \""+at+"\", local: token, token: page-test-token-1}\n"+w.yaml)
	b := newTab(t, d.Page)
	asked := b.login("anyone", "page-test-token-1")
	b.run(chromedp.Navigate(d.Page))
	b.ready()
	if n := asked.Load(); n != 1 {
		t.Errorf("the login window came %d times", n)
	}
	if url := eval[string](b, "location.href"); url != d.Page {
		t.Errorf("the address is %s", url)
	}
	b.click("main", "tokyo-1")
	b.click("main", "Drain")
	b.shows(2*time.Second, "#answer", "no new connections")
}

// login fills in the login window each time it comes, and counts how often.
func (b *tab) login(user, password string) *atomic.Int32 {
	b.t.Helper()
	var asked atomic.Int32
	paused := make(chan func(), 100) // the page asks for less
	yes := true
	call(b, fetch.Enable, fetch.EnableParams{HandleAuthRequests: &yes})
	err := chromedp.Listen(b.ctx, func(event any) {
		switch e := event.(type) {
		case *fetch.EventAuthRequired:
			asked.Add(1)
			paused <- func() {
				_, _ = chromedp.Call(b.ctx, fetch.ContinueWithAuth, fetch.ContinueWithAuthParams{RequestID: e.RequestID, AuthChallengeResponse: &fetch.AuthChallengeResponse{
					Response: fetch.AuthChallengeResponseResponseProvideCredentials, Username: user, Password: password,
				}})
			}
		case *fetch.EventRequestPaused:
			paused <- func() {
				_, _ = chromedp.Call(b.ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: e.RequestID})
			}
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	go func() { // ends with the tab
		for {
			select {
			case f := <-paused:
				f()
			case <-b.ctx.Done():
				return
			}
		}
	}()
	return &asked
}

func TestHundredUpstreamsAreFoldedAndFiltered(t *testing.T) {
	var list []string
	for i := range 100 {
		list = append(list, fmt.Sprintf("{name: exit-%02d, url: \"socks5://127.0.0.1:%d\"}", i, 1+i))
	}
	w := newWorld(t, "")
	at := strings.Trim(w.Page[len("http://"):], "/")
	w.stop()
	d := launch(t, "admin: "+at+"\n"+strings.Replace(w.yaml, "pools: {", "pools: {many: {proxies: ["+strings.Join(list, ", ")+"]}, ", 1))
	b := load(t, d.Page)
	b.shows(time.Second, "main", "102 upstreams, all fine")
	if strings.Contains(b.text("main"), "exit-42") {
		t.Error("the fine ones are not folded")
	}
	b.run(chromedp.SendKeys(chromedp.ID("filter"), "exit-4"))
	b.shows(time.Second, "main", "exit-42")
	b.shows(time.Second, "section[aria-labelledby=exchanges]", "None matches the filter.")
	if text := b.text("section[aria-labelledby=upstreams]"); strings.Contains(text, "exit-52") || strings.Contains(text, "tokyo") {
		t.Errorf("the filter lets others through:\n%s", text)
	}
}

func TestViewsFitANarrowScreen(t *testing.T) {
	w := newWorld(t, "")
	w.follow(w.x, okx, "/ticker?ms=50")
	b := newTab(t, w.Page)
	b.size(390, true)
	b.run(chromedp.Navigate(w.Page))
	b.ready()
	for _, s := range shots {
		b.run(chromedp.Navigate(w.Page + s.hash))
		b.shows(3*time.Second, "main", s.ready)
		if wide := eval[int](b, "document.documentElement.scrollWidth"); wide > 390 {
			t.Errorf("%s is %d pixels wide", s.name, wide)
		}
	}
}

// Times are the server's, whatever the browser's time zone is.
func TestTimesAreTheServersInAnyTimeZone(t *testing.T) {
	w := newWorld(t, "")
	b := load(t, w.Page)
	for script, want := range map[string]string{
		"clock('2026-11-30T23:10:05.123+02:00', Date.parse('2026-11-30T21:30:00Z'))": "23:10:05",
		"clock('2026-11-29T01:10:05Z', Date.parse('2026-11-30T21:30:00Z'))":          "2026-11-29 01:10:05",
		"clock('2026-12-01T00:10:05+02:00', Date.parse('2026-11-30T22:30:00Z'))":     "00:10:05",
		"clock('0001-01-01T00:00:00Z', 0)":                                           "",
		"later('2026-11-30T23:59:59.5-05:00', 1500)":                                 "2026-12-01T00:00:01.000-05:00",
		"age('2026-11-30T23:59:59Z', Date.parse('2026-12-01T01:01:00Z'))":            "1 h 1 min",
		"bytes(999.4)":    "999 B",
		"bytes(999.6)":    "1.0 kB",
		"bytes(12345678)": "12 MB",
		"rate(undefined)": "0 B/s",
	} {
		if got := eval[string](b, "import('/page/words.js').then(({ age, bytes, clock, later, rate }) => "+script+")"); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
}
