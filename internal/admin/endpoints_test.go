package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

func TestEndpoints(t *testing.T) {
	o := wellOptions(t)
	o.Tunnels = func(Filter, int) (list []Tunnel, _ error) {
		for _, id := range []string{"a", "b"} {
			list = append(list, Tunnel{ID: id, Host: "stream.binance.com", Port: 9443, BytesDown: 7})
		}
		return list, nil
	}
	a := serve(t, o, "")
	for _, c := range []struct {
		name, head string
		status     int
		says, kind string
	}{
		{"healthz", "GET /healthz HTTP/1.1", 200, "ok\n", "text/plain"},
		{"healthz of this one", "GET /healthz?listener=127.0.0.1:8879 HTTP/1.1", 200, "ok\n", "text/plain"},
		{"healthz of another one", "GET /healthz?listener=127.0.0.1:1 HTTP/1.1", 404, "another proxyd", "text/plain"},
		{"readyz", "GET /readyz HTTP/1.1", 200, "ready\n", "text/plain"},
		{"readyz of another one", "GET /readyz?listener=127.0.0.1:1 HTTP/1.1", 404, "another proxyd", "text/plain"},
		{"metrics", "GET /metrics HTTP/1.1", 200, "proxyd_build_info 1\n", ""},
		{"status", "GET /api/v1/status HTTP/1.1", 200, `"in_force": true`, "application/json"},
		{"status, empty lists", "GET /api/v1/status HTTP/1.1", 200, `"upstreams": []`, "application/json"},
		{"tunnels", "GET /api/v1/tunnels HTTP/1.1", 200, `"bytes_down":7`, "application/json"},
		{"the page", "GET / HTTP/1.1", 200, "<!doctype html>", "text/html"},
		{"route without a host", "GET /api/v1/route HTTP/1.1", 400, "?host=HOST[:PORT]", "text/plain"},
		{"route of a strange kind", "GET /api/v1/route?host=a.example&kind=ftp HTTP/1.1", 400, "kind: ", "text/plain"},
		{"route at a strange listener", "GET /api/v1/route?host=a.example&listener=127.0.0.1:1 HTTP/1.1", 400, "127.0.0.1:8877, 127.0.0.1:8879", "text/plain"},
		{"nothing", "GET /status HTTP/1.1", 404, "/api/v1/status", "text/plain"},
		{"a slash too many", "GET /healthz/ HTTP/1.1", 404, "/healthz", "text/plain"},
		{"profiles", "GET /debug/pprof/ HTTP/1.1", 404, "admin: {pprof: true}", "text/plain"},
		{"variables", "GET /debug/vars HTTP/1.1", 404, "", "text/plain"},
		{"GET of a change", "GET /-/reload HTTP/1.1", 405, "takes POST", "text/plain"},
		{"GET of a drain", "GET /-/drain?upstream=x HTTP/1.1", 405, "takes POST", "text/plain"},
		{"POST of a view", "POST /api/v1/status HTTP/1.1\r\nX-Proxyd: 1", 405, "takes GET, HEAD", "text/plain"},
		{"DELETE", "DELETE / HTTP/1.1", 405, "takes GET, HEAD", "text/plain"},
		{"OPTIONS", "OPTIONS * HTTP/1.1", 404, "/healthz", "text/plain"},
		{"upgrade, not here", "POST /-/upgrade HTTP/1.1\r\nX-Proxyd: 1", 501, "stop and start it", "text/plain"},
		{"drain, not here", "POST /-/drain?upstream=x HTTP/1.1\r\nX-Proxyd: 1", 501, "enabled: false", "text/plain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := send(t, a, c.head)
			if got.status != c.status || !strings.Contains(got.body, c.says) || !strings.HasPrefix(got.header.Get("Content-Type"), c.kind) {
				t.Errorf("%d %s\n%s", got.status, got.header.Get("Content-Type"), got.body)
			}
			if (got.status == 405) != (got.header.Get("Allow") != "") {
				t.Errorf("Allow: %q", got.header.Get("Allow"))
			}
			for field, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Server": "proxyd"} {
				if got.header.Get(field) != want {
					t.Errorf("%s: %q", field, got.header.Get(field))
				}
			}
			if csp := got.header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none';") {
				t.Errorf("CSP %q", csp)
			}
			head := send(t, a, strings.Replace(c.head, "GET ", "HEAD ", 1))
			if strings.HasPrefix(c.head, "GET ") && (head.status != c.status || head.body != "") {
				t.Errorf("HEAD: %d %q", head.status, head.body)
			}
		})
	}
}

func TestReadiness(t *testing.T) {
	for _, c := range []struct {
		name          string
		change        func(*Status)
		plain, strict int
		says          string
	}{
		{"well", func(*Status) {}, 200, 200, "ready\n"},
		{"starting", func(s *Status) { s.State = StateStarting }, 503, 503, "STARTING: "},
		{"draining", func(s *Status) { s.State = StateDraining }, 503, 503, "DRAINING: "},
		{"a pool is down", func(s *Status) { s.Reasons = []string{"pool asia: no member is usable"} }, 200, 503, "ready, but:\nDEGRADED: pool asia: no member is usable\n"},
		{"a faulty file", func(s *Status) {
			s.Config.InForce, s.Config.Faults = false, []string{"proxyd.yaml:41:5: routs: unknown key"}
		}, 200, 503, "FILE NOT IN FORCE: proxyd.yaml:41:5: routs: unknown key\n"},
		{"a file not loaded", func(s *Status) { s.Config.InForce = false }, 200, 503, "FILE NOT IN FORCE: /etc/proxyd/proxyd.yaml has changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := wellOptions(t)
			o.Status = func() Status {
				s := wellStatus()
				c.change(&s)
				return s
			}
			a := serve(t, o, "")
			for path, want := range map[string]int{"/readyz": c.plain, "/readyz?strict": c.strict, "/readyz?strict=1": c.strict, "/readyz?strict=false": c.plain, "/healthz": 200} {
				got := get(t, a, path)
				if got.status != want || path != "/healthz" && !strings.Contains(got.body, c.says) {
					t.Errorf("%s: %d, want %d and %q in %q", path, got.status, want, c.says, got.body)
				}
			}
		})
	}
}

func TestRouteAnswers(t *testing.T) {
	o := wellOptions(t)
	o.Outlook = func(_ *upstream.Pool, m upstream.Member, target upstream.Target) string {
		if m.Name() == "osaka.example:3128" {
			return "geoblocked for " + target.Exchange
		}
		return ""
	}
	a := serve(t, o, "")
	got := get(t, a, "/api/v1/route?host=stream.binance.com:9443&host=api.kraken.com")
	var routes []Route
	if err := json.Unmarshal([]byte(got.body), &routes); err != nil || len(routes) != 2 {
		t.Fatalf("%v: %s", err, got.body)
	}
	if w := routes[0]; w.Port != 9443 || w.Exchange != "binance" || w.Kind != "websocket" || w.Pool != "asia" || len(w.Members) != 2 || w.Members[1].State != "geoblocked for binance" || w.Members[0].State != "" {
		t.Errorf("%+v", w)
	}
	if routes[1].Refused == "" || routes[1].Pool != "" || strings.Contains(got.body, "CANARY") || strings.Contains(got.body, "bob") {
		t.Errorf("%s", got.body)
	}
	for query, pool := range map[string]string{
		"host=a.example&listener=127.0.0.1:8879": "listen[1].use",
		"host=api.binance.com&kind=ws":           "direct",
	} {
		got = get(t, a, "/api/v1/route?"+query)
		if err := json.Unmarshal([]byte(got.body), &routes); err != nil || routes[0].Pool != pool {
			t.Errorf("%s: %v, want pool %s: %s", query, err, pool, got.body)
		}
	}
	o.Snapshot = func() *router.Router { return nil }
	if got := get(t, serve(t, o, ""), "/api/v1/route?host=a.example"); got.status != 503 {
		t.Errorf("before there is a snapshot: %d", got.status)
	}
}

func TestPanicIsAnswered(t *testing.T) {
	seen := make(chan any, 1)
	o := wellOptions(t)
	o.Status = func() Status { panic("CANARY") }
	o.Panicked = func(v any, _ []byte) { seen <- v }
	a := serve(t, o, "")
	if got := get(t, a, "/readyz"); got.status != http.StatusInternalServerError || strings.Contains(got.body, "CANARY") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if v := <-seen; v != "CANARY" {
		t.Errorf("reported %v", v)
	}
	if got := get(t, a, "/healthz"); got.status != 200 {
		t.Errorf("afterwards: %d", got.status)
	}
}

// What has passed and what is left are not to be mixed up.
func TestVerdictWords(t *testing.T) {
	now := time.Now()
	until := now.Add(14 * time.Second)
	v := Verdict{Verdict: "geoblocked", Since: now.Add(-2 * time.Minute), Until: &until}
	if got, want := v.Words(now), "geoblocked (for 2 min 0 s, 14 s left)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	v = Verdict{Verdict: "ok", Since: now.Add(-time.Minute)}
	if got, want := v.Words(now), "ok (for 1 min 0 s)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A probe of readiness does not look at tunnels.
func TestReadyzUsesTheBriefStatus(t *testing.T) {
	o := wellOptions(t)
	o.Status = func() Status { panic("it was asked for everything") }
	o.Brief = func() Status { return Status{State: StateReady, Config: Config{InForce: true}} }
	if got := get(t, serve(t, o, ""), "/readyz"); got.status != 200 || got.body != "ready\n" {
		t.Errorf("%d: %s", got.status, got.body)
	}
}
