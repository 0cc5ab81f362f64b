package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/event"
	rows "proxyd/internal/feed"
	"proxyd/internal/testkit"
)

// scene is a daemon with a bit of everything that its answers show.
type scene struct {
	*proxyd
	socket string
	client *http.Client
	yaml   string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	ca := testkit.NewCA(t)
	echo := testkit.NewTCP(t, testkit.Echo)
	to := map[string]string{"*": echo.Addr}
	tokyo := testkit.NewProxy(t, testkit.ProxyOptions{
		Scheme: "https", TLS: ca.ServerUntil(t, time.Now().Add(72*time.Hour), "127.0.0.1"), Hosts: to, // which expires soon
		Fault: &testkit.Fault{At: testkit.AtRequest, Host: "ws.okx.com", Do: testkit.Say("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")},
	})
	osaka := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: to})
	hop := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": osaka.Addr}})
	s := &scene{socket: filepath.Join(t.TempDir(), "admin")}
	s.yaml = fmt.Sprintf(`admin: unix:%s
listen:
  - 127.0.0.1:0
  - {address: "127.0.0.2:0", use: asia, kind: http, auth: {users: [{name: bot-1, password: secret}]}}
  - {address: "127.0.0.3:0", transparent: true}
exchanges:
  binance: {websocket: asia}
  okx: {websocket: {pool: asia, limits: {connects: 300/5m}, silence: {window_seconds: 5, bytes: 1000}}}
  kraken: {websocket: spare}
pools:
  asia:
    strategy: failover
    proxies:
      - {name: tokyo-2, url: "http://127.0.0.1:%s"}
      - {name: tokyo-1, url: %q, tls: {ca_file: %q}}
      - {name: osaka-1, url: %q, via: hop}
  hop: {proxies: [%q]}
  spare: {proxies: [{name: seoul-1, url: "http://127.0.0.1:%s"}]}
default: direct
`, s.socket, testkit.Port(testkit.ClosedPort(t)), tokyo.URL(), ca.File, osaka.URL(), hop.URL(), testkit.Port(testkit.ClosedPort(t)))
	s.run(t)
	return s
}

// run starts the daemon, and makes the client of its admin server.
func (s *scene) run(t *testing.T) {
	t.Helper()
	s.proxyd = start(t, s.yaml)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
	}
	transport := &http.Transport{DialContext: dial}
	s.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
}

// play has clients use the daemon until its answers have something to show.
func (s *scene) play(t *testing.T) {
	t.Helper()
	ask := func(addr, target, user string) *testkit.Conn {
		c, _ := testkit.Open(t, addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target, User: user, Password: "secret"})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	ended := ask(s.Addr, "stream.binance.com:9443", "")
	_ = ended.Close()
	for range 2 {
		works(ask(s.Addr, "stream.binance.com:9443", ""))
	}
	works(ask(s.Addr, "ws.okx.com:8443", ""))
	works(ask(s.Addrs[1], "api.binance.com:443", "bot-1"))
	ask(s.Addrs[2], "stream.binance.com:9443", "") // refused: it was not redirected
	for range 4 {
		ask(s.Addr, "ws.kraken.com:443", "")
	}
	_, _ = s.call(t, http.MethodPost, "/-/drain?upstream=osaka-1&exchange=binance")
	testkit.Eventually(t, testkit.Patience, "an event", func() bool {
		_, body := s.call(t, http.MethodGet, "/api/v1/events?type=certificate")
		return strings.Contains(body, "expires")
	})
}

func (s *scene) call(t *testing.T, method, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Proxyd", "1")
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// section is what docs/api.md says of one address.
type section struct {
	title    string
	examples []string // JSON
	leftOut  []string
	text     string
}

func adminSections(t *testing.T) (list []section) {
	t.Helper()
	doc, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, answers, found := strings.Cut(string(doc), "\n## Answers\n")
	if !found {
		t.Fatal("docs/api.md has no section Answers")
	}
	answers, _, _ = strings.Cut(answers, "\n## ")
	for _, text := range strings.Split(answers, "\n### ")[1:] {
		title, text, _ := strings.Cut(text, "\n")
		sec := section{title: title, text: text}
		for _, m := range regexp.MustCompile("(?ms)^```json\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
			sec.examples = append(sec.examples, m[1])
		}
		for _, line := range regexp.MustCompile("(?m)^Left out: (.*)$").FindAllStringSubmatch(text, -1) {
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(line[1], -1) {
				sec.leftOut = append(sec.leftOut, m[1])
			}
		}
		list = append(list, sec)
	}
	return list
}

// sectionOf returns the section of an address.
func sectionOf(t *testing.T, list []section, path string) section {
	t.Helper()
	i := slices.IndexFunc(list, func(s section) bool {
		return regexp.MustCompile("[` ]" + regexp.QuoteMeta(path) + "[`?]").MatchString(s.title)
	})
	if i < 0 {
		t.Fatalf("docs/api.md: no section of ## Answers has `%s` in its title", path)
	}
	return list[i]
}

// The answers that docs/api.md shows have the keys and types of those that a
// daemon gives, and words that the program knows; what they leave out is named.
func TestDocumentedAnswersAreReal(t *testing.T) {
	t.Parallel()
	sections := adminSections(t)
	s := newScene(t)
	s.play(t)
	real := s.answers(t)
	for path, a := range real {
		if dir := os.Getenv("PROXYD_ANSWERS"); dir != "" { // to write examples from
			if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(path, "/", "_")+".json"), []byte(strings.Join(a.bodies, "\n")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for path, a := range real {
		sec := sectionOf(t, sections, path)
		if len(sec.examples) == 0 {
			t.Errorf("%s: no example", path)
			continue
		}
		for _, w := range compareShapes(shapeOf(t, sec.examples...), shapeOf(t, a.bodies...), sec.leftOut) {
			t.Errorf("%s: %s", path, w)
		}
		known, words := map[string]reflect.Type{}, map[string][]string{}
		fields("", a.typ, known)
		for _, l := range sec.leftOut {
			if known[l] == nil {
				t.Errorf("%s: %q is left out, and does not exist", path, l)
			}
		}
		for _, text := range sec.examples {
			var v any
			_ = json.Unmarshal([]byte(text), &v) // shapeOf has done it
			wordsOf("", v, words)
		}
		for at, list := range words {
			if known[at] == nil {
				continue
			}
			all := enumeration(t, known[at])
			for _, w := range list {
				if all != nil && !slices.Contains(all, w) {
					t.Errorf("%s: %q at %s is none of %v", path, w, at, all)
				}
			}
		}
	}
}

// answer is what a daemon says at one address, and the type that it has.
type answer struct {
	typ    reflect.Type
	bodies []string
}

// answers collects all that are JSON.
func (s *scene) answers(t *testing.T) map[string]*answer {
	t.Helper()
	all := map[string]*answer{}
	get := func(typ reflect.Type, method, path string) {
		_, body := s.call(t, method, path)
		name, _, _ := strings.Cut(path, "?")
		if all[name] == nil {
			all[name] = &answer{typ: typ}
		}
		all[name].bodies = append(all[name].bodies, body)
	}
	get(reflect.TypeFor[admin.Status](), http.MethodGet, "/api/v1/status")
	testkit.Eventually(t, 20*time.Second, "a silent feed", func() bool {
		_, body := s.call(t, http.MethodGet, "/api/v1/feeds")
		return strings.Contains(body, `"silence"`)
	})
	get(reflect.TypeFor[rows.Report](), http.MethodGet, "/api/v1/feeds")
	get(reflect.TypeFor[[]admin.Tunnel](), http.MethodGet, "/api/v1/tunnels")
	get(reflect.TypeFor[[]admin.Route](), http.MethodGet, "/api/v1/route?host=ws.okx.com&host=10.0.0.1")
	get(reflect.TypeFor[event.Answer](), http.MethodGet, "/api/v1/events")

	saving(withListen(strings.Replace(s.yaml, "default: direct", "default: reject", 1)))(t, s.File)
	get(reflect.TypeFor[admin.Report](), http.MethodPost, "/-/reload?dry_run=1")
	saving(withListen(strings.Replace(s.yaml, "default: direct", "default: dirct", 1)))(t, s.File)
	get(reflect.TypeFor[admin.Report](), http.MethodPost, "/-/reload")
	get(reflect.TypeFor[admin.ConfigReport](), http.MethodGet, "/api/v1/config")
	get(reflect.TypeFor[admin.Status](), http.MethodGet, "/api/v1/status")
	return all
}

// Every address that the admin server has is in the table of addresses and has a
// section that shows its answer.
func TestEveryAdminAddressIsDocumented(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	_, body := s.call(t, http.MethodGet, "/there-is-no-such-address")
	_, list, found := strings.Cut(strings.TrimSpace(body), "there are ")
	if !found {
		t.Fatalf("the answer to a wrong address names none: %s", body)
	}
	doc, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "\n## Addresses\n")
	table, _, _ = strings.Cut(table, "\n## ")
	sections := adminSections(t)
	for _, path := range strings.Fields(list) {
		if !regexp.MustCompile("[` ]" + regexp.QuoteMeta(path) + "[`?]").MatchString(table) {
			t.Errorf("the table of addresses does not have %s", path)
		}
		if path != "/" { // the page
			sectionOf(t, sections, path)
		}
	}
}

// lines are those of a section's examples that are not JSON.
func (s section) lines() (list []string) {
	for _, m := range regexp.MustCompile("(?ms)^```text\n(.*?)^```$").FindAllStringSubmatch(s.text, -1) {
		list = append(list, strings.Split(strings.TrimSpace(m[1]), "\n")...)
	}
	return list
}

// plainNumbers makes texts that differ in their numbers alone the same.
func plainNumbers(s string) string { return regexp.MustCompile("[0-9]+").ReplaceAllString(s, "0") }

// The answers in words that docs/api.md shows are those of a daemon.
func TestDocumentedTextsAreReal(t *testing.T) {
	t.Parallel()
	sections := adminSections(t)
	s := newScene(t)
	real := map[string][]string{}
	get := func(method, path string) {
		name, _, _ := strings.Cut(path, "?")
		_, body := s.call(t, method, path)
		real[name] = append(real[name], strings.Split(strings.TrimSpace(body), "\n")...)
	}
	get(http.MethodGet, "/healthz")
	get(http.MethodGet, "/readyz")
	s.play(t)
	get(http.MethodGet, "/readyz")
	get(http.MethodPost, "/-/drain?upstream=tokyo-1&exchange=binance")
	get(http.MethodPost, "/-/resume?upstream=tokyo-1&exchange=binance")
	get(http.MethodPost, "/-/close?upstream=tokyo-1&exchange=binance&kind=websocket&over=60")
	get(http.MethodPost, "/-/close?upstream=osaka-1&exchange=okx&kind=websocket")
	for _, path := range []string{"/readyz", "/-/close", "/-/drain", "/-/resume"} {
		sec := sectionOf(t, sections, path)
		all := slices.Concat(real["/healthz"], real["/readyz"], real["/-/close"], real["/-/drain"], real["/-/resume"])
		if len(sec.lines()) == 0 {
			t.Errorf("%s: no example", path)
		}
		for _, line := range sec.lines() {
			if !slices.ContainsFunc(all, func(r string) bool { return plainNumbers(r) == plainNumbers(line) }) {
				t.Errorf("%s: no answer has the line %q:\n%s", path, line, strings.Join(all, "\n"))
			}
		}
	}
}

// The stream of events that docs/api.md shows has the fields of a real one.
func TestDocumentedStreamIsReal(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/api/v1/events?since=1h", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	s.play(t)
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	names := func(line string) string { name, _, _ := strings.Cut(line, ":"); return name }
	have := map[string]bool{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan() && !have["data"]; {
		have[names(lines.Text())] = true
	}
	sec := sectionOf(t, adminSections(t), "/api/v1/events")
	if len(sec.lines()) == 0 {
		t.Fatal("no example of a stream")
	}
	for _, line := range sec.lines() {
		if line == "" || strings.HasPrefix(line, ":") {
			continue
		}
		if !have[names(line)] {
			t.Errorf("a stream has no %q", line)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var e event.Event
			if err := json.Unmarshal([]byte(data), &e); err != nil || e.ID == "" || e.Text == "" {
				t.Errorf("%v: %s", err, data)
			}
		}
	}
}
