package e2e

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// A page of another origin, in a browser on this machine, reads nothing from any
// endpoint and changes nothing: neither with a name of its own that leads here
// (DNS rebinding), nor by a request across origins, a form, or an EventSource. The
// server itself names its endpoints, so a new one is covered.
//
// Promise (security): a page of another site, open in a browser on the machine, reads and changes nothing at the admin address.
func TestForeignPageReadsAndChangesNothing(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": echo.Addr}})
	yaml := "admin: 127.0.0.1:0\nexchanges: {binance: {url: \"" + up.URL() + "\", name: canary-1}}\ndefault: reject\n"
	p := launch(t, "", yaml)
	admin := adminAddress.FindStringSubmatch(p.Log.String())[1]
	live := p.tunnel(t, target)
	if err := os.WriteFile(p.File, []byte(withListen(strings.Replace(yaml, "canary-1", "canary-2", 1))), 0o600); err != nil { // a reload would show
		t.Fatal(err)
	}

	paths := endpointsOf(t, admin)
	for _, path := range paths {
		if status, body, _ := ask(t, http.MethodHead, admin, path, nil); status == http.StatusForbidden || status == http.StatusMisdirectedRequest {
			t.Errorf("our own page cannot read %s: %d %s", path, status, body)
		}
	}
	const query = "?upstream=canary-1&exchange=binance&host=stream.binance.com&kind=websocket&over=0"
	for name, header := range map[string]map[string]string{
		"rebound name":              {"Host": "evil.example"},
		"rebound name, EventSource": {"Host": "evil.example", "Accept": "text/event-stream", "Sec-Fetch-Site": "same-origin"},
		"rebound name, fetch":       {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin", "X-Proxyd": "1"},
		"other origin":              {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
		"other origin, old browser": {"Origin": "http://evil.example", "X-Proxyd": "1"},
		"no origin":                 {"Origin": "null", "X-Proxyd": "1"},
		"other port":                {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site", "X-Proxyd": "1"},
		"EventSource":               {"Accept": "text/event-stream", "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
		"image":                     {"Accept": "image/*", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
		"form":                      {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
	} {
		for _, path := range paths {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions, http.MethodPut} {
				status, body, h := ask(t, method, admin, path+query, header)
				if status != http.StatusForbidden && status != http.StatusMisdirectedRequest || strings.Contains(body, "canary") {
					t.Errorf("%s: %s %s: %d %.200s", name, method, path, status, body)
				}
				for field := range h {
					if strings.HasPrefix(field, "Access-Control-") {
						t.Errorf("%s: %s %s: the answer has %s", name, method, path, field)
					}
				}
			}
		}
	}
	works(live)
	for _, never := range []string{reloaded, `"msg":"drained"`, `"msg":"upgrade`, `"msg":"tunnel",`} {
		if strings.Contains(p.Log.String(), never) {
			t.Errorf("something has changed: %s", never)
		}
	}
}

var adminAddress = regexp.MustCompile(`"msg":"admin".*"address":"([^"]+)"`)

// endpointsOf asks an admin server for the list of its endpoints.
func endpointsOf(t *testing.T, admin string) (paths []string) {
	t.Helper()
	_, body, _ := ask(t, http.MethodGet, admin, "/nothing-here", nil)
	for word := range strings.FieldsSeq(body) {
		if strings.HasPrefix(word, "/") {
			paths = append(paths, word)
		}
	}
	if len(paths) < 11 {
		t.Fatalf("a list of endpoints? %q", body)
	}
	return paths
}

// ask makes one request and returns at most the first 64 KiB of the body.
func ask(t *testing.T, method, addr, path string, header map[string]string) (status int, body string, h http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	if host := header["Host"]; host != "" {
		r.Host = host
	}
	c := &http.Client{Timeout: testkit.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}
