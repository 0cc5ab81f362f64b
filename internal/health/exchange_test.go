package health

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"proxyd/internal/catalog"
	"proxyd/internal/testkit"
)

// TestBounds: of an answer only so much is read and unpacked, whoever sends it.
func TestBounds(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	region := "not available in your region"
	for _, c := range []struct {
		name, says string
		want       Verdict
	}{
		{"a head without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\nContent-Length: 2\r\n\r\nhi", Verdict("target_unreachable")},
		{"a region far down in a page", "HTTP/1.1 403 No\r\nConnection: close\r\n\r\n" + strings.Repeat(" ", bodyLimit) + region, Blocked},
		{"a region far down in a small packed page", "HTTP/1.1 403 No\r\nConnection: close\r\nContent-Encoding: gzip\r\n\r\n" + zipped(strings.Repeat(" ", bodyLimit)+region), Blocked},
		{"a region at the end of what is unpacked", "HTTP/1.1 403 No\r\nConnection: close\r\nContent-Encoding: gzip\r\n\r\n" + zipped(strings.Repeat(" ", bodyLimit-len(region))+region), Geoblocked},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := testkit.NewTCP(t, func(conn net.Conn) {
				s := tls.Server(conn, ca.Server(t))
				if s.Handshake() == nil {
					testkit.Say(c.says)(s)
				}
			})
			proxy := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{host: v.Addr}})
			dial, _ := through(t, proxy.URL())
			if r := Probe(t.Context(), dial, asks(catalog.KindHTTP, host, ca)); r.Verdict != c.want {
				t.Errorf("got %s, %q; want %s", r.Verdict, r.Text, c.want)
			}
		})
	}
}
