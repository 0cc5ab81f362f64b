package inbound

import (
	"strings"
	"testing"

	"proxyd/internal/tunnel"
)

// What is wrong with a request is said without quoting what may be a secret.
func TestMalformedRequestsAreNotQuotedWithTheirSecrets(t *testing.T) {
	for _, text := range []string{
		"GET http://bot:S3CRET@h/p?symbols=[\"A\", \"B\"] HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http://h/p?apiKey=S3CRET x HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http://bot:S3CRET@h/p?s=\xe9 HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http://bot:S3?RET@h/p x HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET u:S3CRET@h/ HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nHost: h\r\nX-API-KEY S3CRET\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nHost: u:S3CRET@h\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: S3CRET\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nHost: h\r\nExpect: S3CRET\r\n\r\n",
		"CONNECT u:S3CRET@h:443 HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST http://h/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X, Content-Length\r\n\r\n",
	} {
		f := startFront(t, local, nil)
		conn := f.dial()
		write(t, conn, text)
		got := readAll(t, conn)
		if !strings.HasPrefix(got, "HTTP/1.1 4") || !strings.Contains(got, "X-Proxyd-Error: class=bad_request") {
			t.Errorf("%q: got %q", text, got)
		}
		r := f.await("the refusal", func(r tunnel.Record) bool { return r.Event == tunnel.Refused })
		for _, secret := range []string{"S3CRET", "S3?", "RET@"} {
			if strings.Contains(got+r.Text+r.Host, secret) {
				t.Errorf("%q: the answer %q or the record %+v shows it", text, got, r)
			}
		}
	}
}
