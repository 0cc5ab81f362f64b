package admin

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/feed"
)

// troubledStatus is of a daemon with something of everything.
func troubledStatus() Status {
	s := wellStatus()
	s.Config.InForce, s.Config.Faults = false, []string{"proxyd.yaml:41:5: <b>routs</b>: unknown key"}
	s.Exchanges = []feed.Exchange{
		{Exchange: "okx", Kind: "websocket", State: feed.Lost, Since: time.Now(), Text: "0 tunnels (40 until 10:17:56)", Hint: "<i>drain tokyo-1</i>"},
		{Exchange: "binance", Kind: "websocket", State: feed.OK, Counts: feed.Counts{Tunnels: 3, TunnelsMax: 5, Down: feed.Rate{Second: 123456}}},
	}
	s.Upstreams = []Upstream{
		{Name: "good-1", URL: "http://h.example:1", Pools: []string{"asia"}, Tunnels: 3},
		{Name: "bad-1", URL: "http://h.example:2", Pools: []string{"asia"}, Bad: true, State: "ejected (for 3 s, at least 12 s left): upstream_refused", Verdicts: []Verdict{{Exchange: "okx", Kind: "http", Verdict: "geoblocked", Since: time.Now()}}},
	}
	s.Tunnels = []Count{{Exchange: "binance", Kind: "websocket", Upstream: "good-1", Tunnels: 3}, {Kind: "http", Upstream: "direct", Tunnels: 1}}
	s.Listeners = []Listener{{Address: "127.0.0.1:8877", Reach: "this machine only"}}
	s.Budgets = []Budget{{Exchange: "okx", Exit: "tokyo", Limit: "10/5m", Whole: "300/5m", Remaining: 7}}
	s.Older = []Process{{Generation: 1, PID: 41, Tunnels: 9, Since: time.Now()}}
	s.Active = 4
	return s
}

func TestPageShowsProblemsFirstAndNoSecret(t *testing.T) {
	o := wellOptions(t)
	o.Settings = func() config.Admin { return config.Admin{Token: config.NewSecret("CANARY-token")} }
	o.Status = troubledStatus
	page := get(t, serve(t, o, ""), "/")
	order := []string{
		"FILE NOT IN FORCE: proxyd.yaml:41:5: &lt;b&gt;routs&lt;/b&gt;", "okx", "0 tunnels (40 until 10:17:56)", "&lt;i&gt;drain", "binance", "3 (5)", "123 kB/s",
		"bad-1", "ejected (for 3 s, at least 12 s left)", "okx http: geoblocked", "good-1", "Tunnels: 4", "10/5m (of 300/5m)", "still serves 9 tunnels", "127.0.0.1:8877",
	}
	at := 0
	for _, want := range order {
		i := strings.Index(page.body[at:], want)
		if i < 0 {
			t.Fatalf("no %q after byte %d in\n%s", want, at, page.body)
		}
		at += i
	}
	if strings.Contains(page.body, "CANARY") {
		t.Error("the page has the token")
	}
}

// The policy forbids what is inline and what is elsewhere, and the page needs
// neither.
func TestPageHasNothingInlineAndNothingFromElsewhere(t *testing.T) {
	o := wellOptions(t)
	o.Status = troubledStatus
	a := serve(t, o, "")
	page := get(t, a, "/")
	for _, never := range []string{"https://", "style=\"", "<style", "onclick", "javascript:", "data:"} {
		if strings.Contains(page.body, never) {
			t.Errorf("the page has %s", never)
		}
	}
	csp := page.header.Get("Content-Security-Policy")
	if csp != pagePolicy || strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || !strings.HasPrefix(csp, "default-src 'none'") {
		t.Errorf("policy: %s", csp)
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="(/page/[^"]*)"`).FindAllStringSubmatch(page.body, -1) {
		if got := get(t, a, m[1]); got.status != 200 {
			t.Errorf("%s: %d", m[1], got.status)
		}
	}
	if !strings.Contains(page.body, `<noscript><meta http-equiv="refresh"`) || strings.Count(page.body, "http-equiv") != 1 {
		t.Error("without script, and only then, the page loads itself again")
	}
}

// What a browser gets as another type it does not use (nosniff).
func TestPageFilesHaveTheirTypes(t *testing.T) {
	a := serve(t, wellOptions(t), "")
	kinds := map[string]string{".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
	imports := regexp.MustCompile(`from '\./([a-z.]+)'`)
	for name, text := range pageFiles {
		got := get(t, a, pagePath+name)
		kind := kinds[name[strings.LastIndex(name, "."):]]
		if got.status != 200 || kind == "" || !strings.HasPrefix(got.header.Get("Content-Type"), kind) || got.body != string(text) {
			t.Errorf("%s: %d %s", name, got.status, got.header.Get("Content-Type"))
		}
		if strings.Contains(got.body, "innerHTML") || strings.Contains(got.body, "eval(") {
			t.Errorf("%s turns text into elements or code", name)
		}
		for _, m := range imports.FindAllStringSubmatch(got.body, -1) {
			if pageFiles[m[1]] == nil {
				t.Errorf("%s imports %s, which is not there", name, m[1])
			}
		}
	}
	for _, path := range []string{"/page/", "/page/page.html", "/page/../admin.go", "/page/no.js"} {
		if got := get(t, a, path); got.status != 404 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}

func TestConfigAnswerHasTheLastReload(t *testing.T) {
	o := wellOptions(t)
	if got := get(t, serve(t, o, ""), "/api/v1/config"); got.status != 501 || !strings.Contains(got.body, "check --print") {
		t.Errorf("without one: %d %s", got.status, got.body)
	}
	kept := &LastReload{By: "SIGHUP", Report: Report{File: "/etc/proxyd/proxyd.yaml", Faults: []string{"routs: unknown key"}}}
	o.Config = func() ConfigReport {
		return ConfigReport{Config: Config{File: "/etc/proxyd/proxyd.yaml"}, YAML: "default: direct\n", LastReload: kept}
	}
	got := get(t, serve(t, o, ""), "/api/v1/config")
	var c ConfigReport
	if err := json.Unmarshal([]byte(got.body), &c); err != nil || c.YAML != "default: direct\n" || c.LastReload.By != "SIGHUP" || c.LastReload.Faults[0] != "routs: unknown key" || c.LastReload.File != "/etc/proxyd/proxyd.yaml" {
		t.Errorf("%v: %s", err, got.body)
	}
	if strings.Contains(got.body, "null") || kept.Changes != nil {
		t.Errorf("a list is null, or what is kept was changed: %s", got.body)
	}
}

func TestByteWords(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 12345: "12 kB", 999_600: "1.0 MB", 5e15: "5000 TB"} {
		if got := byteWords(n); got != want {
			t.Errorf("%v: got %q, want %q", n, got, want)
		}
	}
}
