package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// A probe has the time of its pool's checks, unless the call says another.
func TestProbeTimeout(t *testing.T) {
	p := newProbing(t)
	silent := testkit.SilentListener(t)
	for name, c := range map[string]struct{ pool, flag string }{
		"of the pool": {"0.3", ""},
		"of the call": {"20", "--timeout-seconds=0.3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := *p
			own.configPath = file(t, "admin: \"\"\npools: {asia: {proxies: [\"http://"+silent+"\"], health_check: {method: tcp, timeout_seconds: "+c.pool+"}}}\nexchanges: {kraken: asia}\n")
			args := []string{"--kind", "http", "--format", "json"}
			if c.flag != "" {
				args = append(args, c.flag)
			}
			out, errOut, code := own.run(t, "", args...)
			for _, r := range rowsOf(t, out) {
				if r.Total < 300 || r.Total > 4000 {
					t.Errorf("given up after %g ms: %+v", r.Total, r)
				}
			}
			if code != 1 || !strings.Contains(errOut, "0 of 1 ok") {
				t.Errorf("exit code %d\n%s%s", code, out, errOut)
			}
		})
	}
}

// The address that is asked for the exit's is reached by the rules for all: a
// private one only where a route says so.
func TestProbeExitIPAtPrivateAddress(t *testing.T) {
	p := newProbing(t)
	asked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("203.0.113.7")) }))
	defer asked.Close()
	const direct = "admin: \"\"\npools: {here: {proxies: [direct]}}\nexchanges: {kraken: here}\n"
	for text, want := range map[string]int{direct: 1, direct + "routes: [{hosts: [localhost], use: direct}]\n": 0} {
		p.configPath = file(t, text)
		if out, errOut, code := p.run(t, "", "--exit-ip", strings.Replace(asked.URL, "127.0.0.1", "localhost", 1)); code != want || strings.Contains(out, "203.0.113.7") != (want == 0) {
			t.Errorf("%s: exit code %d, want %d\n%s%s", text, code, want, out, errOut)
		}
	}
}
