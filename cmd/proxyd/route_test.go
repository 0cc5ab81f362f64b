package main

import (
	"encoding/json"
	"strings"
	"testing"

	"proxyd/internal/admin"
)

// A pool without an enabled member refuses, and route says so.
func TestRouteThroughPoolWithoutEnabledMember(t *testing.T) {
	t.Parallel()
	path := file(t, "pools: {asia: {proxies: [{url: 'http://a.example:1', enabled: false}]}}\ndefault: direct\nexchanges: {okx: asia}\n")
	out, _, code := call("route", "-c", path, "www.okx.com")
	if want := "no member of asia is enabled: 503 no_upstream"; code != 1 || !strings.Contains(out, want) {
		t.Errorf("exit code %d, %s; want 1 and %q", code, out, want)
	}
	if out, _, code = call("check", "-c", path); code != 0 || !strings.Contains(out, "pools.asia: no member is enabled") {
		t.Errorf("check: exit code %d, %s", code, out)
	}
}

func TestRouteAtListener(t *testing.T) {
	path := file(t, "listen: [\"127.0.0.1:8877\", {address: \"127.0.0.1:8879\", use: \"http://one.example:1\", kind: websocket}]\ndefault: direct\nexchanges: {kraken: reject}\nroutes: [{hosts: [bad.example], use: reject}]\n")
	for _, c := range []struct{ listener, host, want string }{
		{"", "ws.kraken.com", "refused"},
		{"127.0.0.1:8877", "a.example", "direct"},
		{"127.0.0.1:8879", "ws.kraken.com", "one.example:1"},
		{"127.0.0.1:8879", "bad.example", "refused"},
	} {
		args := []string{"route", "-c", path, c.host}
		if c.listener != "" {
			args = append(args, "--listener", c.listener)
		}
		out, errOut, _ := call(args...)
		if !strings.Contains(out, c.want) {
			t.Errorf("%s at %q: want %q in\n%s%s", c.host, c.listener, c.want, out, errOut)
		}
	}
}

func TestRouteOfHostBelowDomain(t *testing.T) {
	path := file(t, "default: direct\nexchanges: {binance: 'socks5://tokyo.example:1080', okx: reject}\n")
	out, _, code := call("route", "-c", path, "new-stream.binance.com")
	if code != 0 || !strings.Contains(out, "  rule      domain binance.com (host not in the catalogue)\n") || !strings.Contains(out, "  exchange  binance\n") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	out, _, code = call("route", "-c", path, "new.okx.com")
	if code != 1 || !strings.Contains(out, "  rule      domain okx.com (host not in the catalogue)\n") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestRouteLive(t *testing.T) {
	_, path := running(t, "127.0.0.1:0", func(*admin.Options) {})
	out, errOut, code := call("route", "--live", "-c", path, "stream.binance.com:9443")
	if code != 0 || strings.Count(out, "member") != 3 || strings.Contains(out, "geheim-7") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	live, _, _ := call("route", "--live", "-c", path, "--format", "json", "api.binance.com", "a.example")
	still, _, _ := call("route", "-c", path, "--format", "json", "api.binance.com", "a.example")
	if live != still {
		t.Errorf("live:\n%s\nnot live:\n%s", live, still)
	}
	if out, _, code := call("route", "--live", "-c", path, "api.kraken.com"); code != 1 || !strings.Contains(out, "\n  do        ") {
		t.Errorf("a refused host: exit code %d\n%s", code, out)
	}
	if _, errOut, code := call("route", "--live", "-c", path, "--listener", "127.0.0.1:1", "a.example"); code != 2 || !strings.Contains(errOut, "127.0.0.1:8877") {
		t.Errorf("a strange listener: exit code %d: %s", code, errOut)
	}
	if _, errOut, code := call("route", "--admin", "127.0.0.1:1", "a.example"); code != 2 || !strings.Contains(errOut, "--live") {
		t.Errorf("--admin alone: exit code %d: %s", code, errOut)
	}
}

// What the daemon has found out about a member stands behind it.
func TestRouteShowsMemberState(t *testing.T) {
	var out strings.Builder
	r := admin.Route{Host: "a.example", Port: 443, Members: []admin.RouteMember{{Name: "tokyo-1", URL: "http://h.example:1", Weight: 1, Enabled: true, State: "ejected (for 3 s, at least 12 s left): upstream_refused"}}}
	if err := writeRoutes(&out, []admin.Route{r}, "text"); err != nil || !strings.Contains(out.String(), "tokyo-1  http://h.example:1  ejected (for 3 s, at least 12 s left): upstream_refused\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestRouteJSON(t *testing.T) {
	out, _, code := call("route", "-c", file(t, byKind), "--format", "json", "stream.binance.com:9443", "api.kraken.com")
	var got []admin.Route
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || len(got) != 2 {
		t.Fatalf("%v, exit code %d\n%s", err, code, out)
	}
	w := got[0]
	if w.Port != 9443 || w.Exchange != "binance" || w.Kind != "websocket" || w.Pool != "asia" || w.Timeout != 4 || len(w.Members) != 3 || w.Refused != "" {
		t.Errorf("%+v", w)
	}
	if m := w.Members[1]; m != (admin.RouteMember{Name: "osaka.example:3128", URL: "http://osaka.example:3128", Tier: 2, Weight: 3, Enabled: true}) || w.Members[2].Enabled {
		t.Errorf("%+v", w.Members)
	}
	if strings.Contains(out, "bob") || got[1].Refused == "" || got[1].Pool != "" {
		t.Errorf("%s", out)
	}
}

// The hops before an upstream are part of where a connection goes.
func TestRouteShowsHops(t *testing.T) {
	path := file(t, `pools:
  near: {proxies: ["http://near.example:1"]}
  mid: {via: near, proxies: ["http://mid-1.example:1", "http://mid-2.example:1"]}
  mixed: {proxies: [{url: "http://mid-3.example:1", via: near}, "http://mid-4.example:1"]}
  far: {proxies: [{name: one, url: "http://h1.example:1", via: near}, {name: two, url: "http://h2.example:1", via: mid}, {name: three, url: "http://h3.example:1", via: mixed}, {name: four, url: "http://h4.example:1", via: "http://u:geheim@in.place:1"}]}
default: far
`)
	out, errOut, code := call("route", "-c", path, "a.example")
	for _, want := range []string{"one  http://h1.example:1  via near\n", "two  http://h2.example:1  via mid via near\n", "three  http://h3.example:1  via mixed via several\n", "via in.place:1\n"} {
		if code != 0 || !strings.Contains(out, want) || strings.Contains(out+errOut, "geheim") {
			t.Errorf("exit code %d, want %q in\n%s%s", code, want, out, errOut)
		}
	}
}
