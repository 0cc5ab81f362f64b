//go:build interop

package interop

import (
	"bytes"
	"testing"

	"proxyd/internal/testkit"
)

// plainHTTP: what curl can make of a request, through each program. Two real
// parsers have read it before the exchange does.
func (w *world) plainHTTP(t *testing.T) {
	body := testkit.Pattern(size)
	upload := pattern(t)
	for _, name := range []string{"tinyproxy", "squid", "microsocks"} {
		u := w.upstream(name)
		base := "http://" + u.rest
		for _, c := range []struct {
			name string
			args []string
			want []byte
		}{
			{"two on one connection", []string{base + "/", base + "/"}, []byte("okok")},
			{"HTTP/1.0", []string{"-0", base + "/large?bytes=" + number(size)}, body},
			{"chunked answer", []string{base + "/stream?n=3"}, []byte("chunk 1\nchunk 2\nchunk 3\n")},
			{"Expect: 100-continue", []string{"-H", "Expect: 100-continue", "--data-binary", "@" + upload, base + "/echo"}, body},
			{"chunked upload", []string{"-H", "Transfer-Encoding: chunked", "--data-binary", "@" + upload, base + "/echo"}, body},
			{"PUT", []string{"-T", upload, base + "/echo"}, body},
			{"HEAD", []string{"-I", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", base + "/"}, []byte("200 0")},
			{"204", []string{"-w", "%{http_code}", base + "/status/204"}, []byte("204")},
			{"429 of the exchange", []string{"-w", " %{http_code}", base + "/status/429"}, []byte("the exchange says 429 429")},
		} {
			run(t, "curl, plain HTTP, "+c.name+" → "+u.name, func(t *testing.T) {
				w.curl(t, append([]string{"-x", "http://" + open}, c.args...)...).arrived(t, c.want)
			})
		}
		run(t, "curl, plain HTTP, a body that ends early → "+u.name, func(t *testing.T) {
			a := w.curl(t, "-x", "http://"+open, base+"/close")
			if a.code != 18 || !bytes.Equal(a.body, []byte("ten bytes.")) {
				t.Errorf("curl ended with %d and %q, want 18 (partial file) and the ten bytes\n%s", a.code, a.body, a.words)
			}
		})
	}
}
