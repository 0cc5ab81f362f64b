package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// problems returns the lines of bad news.
func (s *scene) problems(t *testing.T) string {
	t.Helper()
	_, body := s.call(t, http.MethodGet, "/readyz")
	return body
}

// happened counts the events of a type.
func (s *scene) happened(t *testing.T, typ string) int {
	t.Helper()
	_, body := s.call(t, http.MethodGet, "/api/v1/events?type="+typ)
	return strings.Count(body, `"type": "`+typ+`"`)
}

// A limit of tunnels that is nearly reached and then refuses a client is a line with
// numbers until there is room again, and an event at its beginning and its end.
func TestReachedLimitOfTunnelsIsNews(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	s := adminOf(t, loopback+"max_tunnels: 10\ndefault: direct\n")
	var open []*testkit.Conn
	for range 9 {
		c, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr})
		if !reply.OK {
			t.Fatal(reply)
		}
		open = append(open, c)
	}
	if got := s.problems(t); !strings.Contains(got, "max_tunnels nearly reached: 9 of 10, since ") {
		t.Errorf("with 9 of 10: %s", got)
	}
	c, _ := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr})
	open = append(open, c)
	for range 3 {
		c, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr})
		if reply.OK || reply.Status != 503 {
			t.Errorf("beyond the limit: %v", reply)
		}
		_ = c.Close()
	}
	got := s.problems(t)
	if !strings.Contains(got, "max_tunnels reached: 10 of 10, 3 refused in 1 min, since ") || !strings.Contains(got, "; raise max_tunnels\n") {
		t.Errorf("with 10 of 10: %s", got)
	}
	for _, c := range open {
		_ = c.Close()
	}
	testkit.Eventually(t, testkit.Patience, "all to be well", func() bool { return s.problems(t) == "ready\n" })
	if n := s.happened(t, "max_tunnels"); n != 3 {
		t.Errorf("%d events of the limit; want that it is near, that it is reached, and that there is room", n)
	}
}

// adminOf is a daemon with this configuration and an admin server.
func adminOf(t *testing.T, yaml string) *scene {
	t.Helper()
	s := &scene{socket: filepath.Join(t.TempDir(), "admin"), yaml: yaml}
	s.yaml = "admin: unix:" + s.socket + "\n" + yaml
	s.run(t)
	return s
}

// A certificate of a listener, or one that an upstream is shown, is news two weeks
// before its end, until a renewed file is loaded.
func TestExpiringCertificateIsNewsUntilItIsRenewed(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	cert, key := ca.FilesUntil(t, time.Now().Add(72*time.Hour), "localhost")
	gone, goneKey := ca.FilesUntil(t, time.Now().Add(-time.Hour), "a client")
	s := adminOf(t, fmt.Sprintf(`
listen: {address: "127.0.0.1:0", tls: {cert_file: %q, key_file: %q}}
pools: {asia: {proxies: [{name: tokyo-1, url: "https://192.0.2.1:443", tls: {cert_file: %q, key_file: %q}}]}}
default: asia
`, cert, key, gone, goneKey))
	got := s.problems(t)
	for _, want := range []string{
		"the certificate of listener 127.0.0.1:0 expires at ", ", in 2 d 23 h; renew the file " + cert,
		"the client certificate for upstream tokyo-1 expired at ", "; renew the file under tls.cert_file, then run: proxyd reload",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	testkit.Eventually(t, testkit.Patience, "two events", func() bool { return s.happened(t, "certificate") == 2 })
	for _, f := range [][2]string{{cert, key}, {gone, goneKey}} {
		newCert, newKey := ca.Files(t, "localhost")
		for old, renewed := range map[string]string{f[0]: newCert, f[1]: newKey} {
			if err := os.Rename(renewed, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if status, body := s.call(t, http.MethodPost, "/-/reload"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	testkit.Eventually(t, testkit.Patience, "all to be well", func() bool { return s.problems(t) == "ready\n" })
	testkit.Eventually(t, testkit.Patience, "four events", func() bool { return s.happened(t, "certificate") == 4 })
}
