package inbound

import (
	"encoding/base64"
	"net"
	"net/http"
	"strings"
	"testing"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

func basicAuth(user string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n"
}

func withUsers(l *config.Listener) {
	l.Users = []config.User{
		{Name: "alice", Password: config.NewSecret("s3cr@t")},
		{Name: "b%b", Password: config.NewSecret("")},
	}
}

func TestConnectAuth(t *testing.T) {
	target := echo(t)
	tests := []struct {
		name, auth string
		ok         bool
		label      string
	}{
		{"right", basicAuth("alice:s3cr@t"), true, "alice"},
		{"with a kind", basicAuth("alice+websocket:s3cr@t"), true, "alice"},
		{"escaped, as websockets sends it", basicAuth("alice:s3cr%40t"), true, "alice"},
		{"escaped name", basicAuth("%61lice%2Bhttp:s3cr%40t"), true, "alice"},
		{"a percent sign that is meant", basicAuth("b%b"), true, "b%b"},
		{"no padding, other case", "proxy-authorization: bAsIc " + strings.TrimRight(base64.StdEncoding.EncodeToString([]byte("alice:s3cr@t")), "=") + "\r\n", true, "alice"},
		{"none", "", false, ""},
		{"wrong password", basicAuth("alice:secret"), false, ""},
		{"unknown name", basicAuth("mallory:s3cr@t"), false, ""},
		{"empty", basicAuth(""), false, ""},
		{"boundary moved", basicAuth("alices3cr@t:"), false, ""},
		{"another scheme", "Proxy-Authorization: Negotiate YII=\r\n", false, ""},
		{"not base64", "Proxy-Authorization: Basic !!!\r\n", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, local, withUsers)
			conn := f.dial()
			write(t, conn, "CONNECT "+target+" HTTP/1.1\r\nHost: x\r\n"+tt.auth+"\r\n")
			if tt.ok {
				if got := readN(t, conn, len(established)); got != established {
					t.Fatalf("got %q", got)
				}
				r := f.await("the tunnel", func(r tunnel.Record) bool { return r.Event == tunnel.Opened })
				if r.Label != tt.label {
					t.Errorf("label %q, want %q", r.Label, tt.label)
				}
				return
			}
			resp, body := answerOf(t, readHeadAndBody(t, conn))
			checkRefusal(t, resp, body, "auth")
			if resp.StatusCode != 407 || resp.Header.Get("Proxy-Authenticate") != `Basic realm="proxyd"` || resp.Close {
				t.Errorf("got %s %v", resp.Status, resp.Header)
			}
			if strings.Contains(body, "mallory") || strings.Contains(body, "secret") {
				t.Errorf("credentials came back: %q", body)
			}
			// The same connection serves the next try.
			write(t, conn, "CONNECT "+target+" HTTP/1.1\r\nHost: x\r\n"+basicAuth("alice:s3cr@t")+"\r\nEARLY")
			if got := readN(t, conn, len(established)+5); got != established+"EARLY" {
				t.Errorf("second try: %q", got)
			}
			f.refused(failure.Auth)
		})
	}
}

// readHeadAndBody reads one answer with a Content-Length.
func readHeadAndBody(t *testing.T, conn net.Conn) string {
	t.Helper()
	head := readHeadOf(t, conn)
	resp, err := http.ReadResponse(newReader(head), &http.Request{Method: "HEAD"})
	if err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	return head + readN(t, conn, int(resp.ContentLength))
}

func TestLabelWithoutAuth(t *testing.T) {
	target := echo(t)
	for user, want := range map[string]string{
		"okx.lane2:pw@x": "okx.lane2", "okx": "okx", "a+websocket:x": "a", "evil\nline:x": "evil?line", "%6fkx:x": "okx",
		strings.Repeat("n", 200) + ":x": strings.Repeat("n", maxLabel-3) + "...",
	} {
		t.Run(want, func(t *testing.T) {
			f := startFront(t, local, nil)
			conn := f.dial()
			write(t, conn, "CONNECT "+target+" HTTP/1.0\r\n"+basicAuth(user)+"\r\n")
			if got := readN(t, conn, len(established)); got != established {
				t.Fatalf("got %q", got)
			}
			r := f.await("the tunnel", func(r tunnel.Record) bool { return r.Event == tunnel.Opened })
			if r.Label != want {
				t.Errorf("label %q, want %q", r.Label, want)
			}
		})
	}
}

func TestKindOfUsername(t *testing.T) {
	for name, want := range map[string]struct {
		name string
		kind catalog.Kind
	}{
		"a+websocket": {"a", catalog.KindWebsocket}, "a+http": {"a", catalog.KindHTTP}, "+http": {"", catalog.KindHTTP},
		"a+lane2": {"a+lane2", catalog.KindUnknown}, "a": {"a", catalog.KindUnknown},
	} {
		id, f := (*users)(nil).identify(name, "")
		if f != nil || id.label != want.name || id.kind != want.kind {
			t.Errorf("%s: got %+v, %v", name, id, f)
		}
	}
}
