package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/testkit"
	"proxyd/internal/testkit/routertest"
	"proxyd/internal/upstream"
)

const token = "hunter2-token"

// provider is a server of lists.
func provider(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s
}

// sourceOf returns the list of a configuration with the keys of a list, and its upstreams.
func sourceOf(t *testing.T, list string, more ...string) (*config.ListSource, *upstream.Set) {
	t.Helper()
	r := routertest.New(t, strings.Join(more, "\n")+"\npools:\n  asia: {list: {"+list+"}}\n  hop: {proxies: [\"http://127.0.0.1:1\"]}\n", nil)
	return r.Config().Sources()[0], r.Set()
}

const twoProxies = "192.0.2.1:1080\n192.0.2.2:1080\n"

func plainList(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, twoProxies) }

// Promise (security): a list is used only if it has come whole, from the scheme and the
// host that the configuration names; no error shows a part of its URL that may be secret.
func TestFetchRefusesWhatIsNotTheWholeList(t *testing.T) {
	t.Parallel()
	elsewhere := provider(t, plainList)
	const invalid = "the answer is not valid HTTP"
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"an error":               {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, token, http.StatusInternalServerError) }, "the answer is HTTP 500"},
		"no rights":              {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, token, http.StatusUnauthorized) }, "the answer is HTTP 401"},
		"a part of it":           {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "192.0.2.1:1", http.StatusPartialContent) }, "the answer is HTTP 206"},
		"304 that was not asked": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, "the answer is HTTP 304"},
		"HTML by its type": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			plainList(w, nil)
		}, "the answer is a page of HTML, not a list"},
		"compressed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			plainList(w, nil)
		}, "the answer is compressed, which was not asked for"},
		"half of it":            {raw("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n192.0.2.1:1080\n"), "the answer is incomplete: the connection ended before its end"},
		"half of it, in chunks": {raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n192.0.2.1:1080\n\r\n"), "the answer is incomplete: the connection ended before its end"},
		"no length":             {raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n192.0.2.1:1080\n"), "the answer does not say how long it is, so that half of it would pass for all of it"},
		"10 MB":                 {func(w http.ResponseWriter, _ *http.Request) { big(w, 10<<20, true) }, "the answer is larger than 8 MiB"},
		"10 MB in chunks":       {func(w http.ResponseWriter, _ *http.Request) { big(w, 10<<20, false) }, "the answer is larger than 8 MiB"},
		"another host":          {redirect(elsewhere.URL + "/" + token), "a redirect to another host is not followed"},
		"the host by another name": {func(w http.ResponseWriter, r *http.Request) {
			redirect("http://localhost:"+testkit.Port(r.Host)+"/x")(w, r)
		}, "a redirect to another host is not followed"},
		"a metadata service": {redirect("http://169.254.169.254/latest/" + token), "a redirect to another host is not followed"},
		"https":              {func(w http.ResponseWriter, r *http.Request) { redirect("https://"+r.Host+"/"+token)(w, r) }, "a redirect from http to https is not followed"},
		"a file":             {redirect("file:///etc/passwd"), "a redirect from http to another scheme is not followed"},
		"round and round":    {redirect("/again"), "more than 5 redirects"},
		"no HTTP":            {raw("192.0.2.1:1080:bob:" + token + "\r\n"), invalid},
		"a faulty status":    {raw("HTTP/1.1 " + token + "\r\n\r\n"), invalid},
		"a faulty field":     {raw("HTTP/1.1 200 OK\r\n" + token + "\r\n\r\n"), invalid},
		"a faulty length":    {raw("HTTP/1.1 200 OK\r\nContent-Length: " + token + "\r\n\r\n"), invalid},
		"a faulty coding":    {raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + token + "\r\n\r\n"), invalid},
		"faulty chunks":      {raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + token + "\r\n"), invalid},
		"a field of 1 MiB":   {raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"), invalid},
		"a faulty redirect":  {redirect("http://bob:" + token + "@[::1/" + token), invalid},
		"a slow answer": {func(w http.ResponseWriter, r *http.Request) {
			plainList(w, r)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "no whole answer within 10 s"},
		"an answer that never comes": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no whole answer within 10 s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := provider(t, c.answer).Listener.Addr().String()
			s, set := sourceOf(t, `from: "http://bob:`+token+`@`+at+`/`+token+`?key=`+token+`"`)
			got, err := (&Fetcher{timeout: time.Second}).Fetch(t.Context(), set, s, Answer{})
			if err == nil {
				t.Fatalf("got %q", got.Text)
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "bob") {
				t.Errorf("got %q, want %q", err, c.want)
			}
		})
	}
}

func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, answer)
		_ = conn.Close()
	}
}

func big(w http.ResponseWriter, n int, length bool) {
	if length {
		w.Header().Set("Content-Length", fmt.Sprint(n))
	}
	line := []byte(strings.Repeat("192.0.2.1:1080\n", 1000))
	for ; n > 0; n -= len(line) {
		if _, err := w.Write(line[:min(n, len(line))]); err != nil {
			return
		}
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

// A list is asked for only if it has changed, with the credentials of the URL, also after
// a redirect at the same host.
func TestFetchAsksOnlyForWhatHasChanged(t *testing.T) {
	t.Parallel()
	server := provider(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case user != "bob" || password != token || r.URL.Query().Get("key") != "a b/c":
			w.WriteHeader(http.StatusForbidden)
		case r.Header.Get("Referer") != "": // the URL before, which is a secret
			w.WriteHeader(http.StatusBadRequest)
		case r.URL.Path == "/first":
			http.Redirect(w, r, "/list?key=a+b%2Fc", http.StatusMovedPermanently)
		case r.Header.Get("If-None-Match") == `"1"` && r.Header.Get("If-Modified-Since") == "Mon, 30 Nov 2026 00:00:00 GMT":
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
			plainList(w, r)
		}
	})
	s, set := sourceOf(t, `from: "http://bob:`+token+`@`+server.Listener.Addr().String()+`/first?key=a%20b/c"`)
	got, err := (&Fetcher{}).Fetch(t.Context(), set, s, Answer{})
	if err != nil || string(got.Text) != twoProxies || got.ETag != `"1"` {
		t.Fatalf("got %+v, %v", got, err)
	}
	if again, err := (&Fetcher{}).Fetch(t.Context(), set, s, got); err != nil || !again.Same {
		t.Errorf("got %+v, %v", again, err)
	}
}

// An https list comes from a server with a certificate that is trusted, and never from http.
func TestFetchVerifiesCertificates(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	answer := http.HandlerFunc(plainList)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = ca.Server(t, "127.0.0.1")
	server.Config.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	s, set := sourceOf(t, `from: "`+server.URL+`/`+token+`"`)
	if _, err := (&Fetcher{Roots: x509.NewCertPool()}).Fetch(t.Context(), set, s, Answer{}); err == nil || !strings.Contains(err.Error(), "the certificate is not trusted: ") || strings.Contains(err.Error(), token) {
		t.Errorf("got %v", err)
	}
	pem, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	if got, err := (&Fetcher{Roots: roots}).Fetch(t.Context(), set, s, Answer{}); err != nil || string(got.Text) != twoProxies {
		t.Errorf("got %q, %v", got.Text, err)
	}
	answer = func(w http.ResponseWriter, r *http.Request) { redirect("http://"+r.Host+"/"+token)(w, r) }
	if _, err := (&Fetcher{Roots: roots}).Fetch(t.Context(), set, s, Answer{}); err == nil || err.Error() != "a redirect from https to http is not followed" {
		t.Errorf("got %v", err)
	}
	name, set := sourceOf(t, `from: "https://localhost:`+testkit.Port(server.Listener.Addr().String())+`"`) // the certificate has another name
	if _, err := (&Fetcher{Roots: roots}).Fetch(t.Context(), set, name, Answer{}); err == nil || !strings.Contains(err.Error(), "certificate is not trusted") {
		t.Errorf("got %v", err)
	}
}

// Promise (security): no list comes from a metadata service or a link-local address,
// whether asked for directly or through an upstream.
func TestFetchNeverAsksMetadataServices(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "http"})
	for _, host := range []string{"169.254.169.254", "[fd00:ec2::254]", "metadata.google.internal", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::a9fe:101]"} {
		for _, via := range []string{"direct", `"` + proxy.URL() + `"`} {
			named, set := sourceOf(t, `from: "http://lists.example/latest", via: `+via)
			s := at(named, "http://"+host+"/latest")
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err := (&Fetcher{}).Fetch(ctx, set, s, Answer{})
			cancel()
			if err == nil || !strings.HasPrefix(err.Error(), "denied: ") {
				t.Errorf("%s via %s: got %v", host, via, err)
			}
		}
	}
	if asked := proxy.Asked(); len(asked) > 0 {
		t.Errorf("the proxy was asked for %v", asked)
	}
}

// Promise (security): a list is fetched through the outbound that list.via names, and
// never directly in its place.
func TestFetchGoesThroughItsOutboundAlone(t *testing.T) {
	t.Parallel()
	server := provider(t, plainList)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"lists.provider.example": server.Listener.Addr().String()}})
	s, set := sourceOf(t, `from: "http://lists.provider.example/x", via: "`+proxy.URL()+`"`, "default: reject")
	if got, err := (&Fetcher{}).Fetch(t.Context(), set, s, Answer{}); err != nil || string(got.Text) != twoProxies {
		t.Errorf("got %q, %v", got.Text, err)
	}
	if asked := proxy.Asked(); len(asked) != 1 {
		t.Errorf("the proxy was asked for %v", asked)
	}
	s, set = sourceOf(t, `from: "http://`+server.Listener.Addr().String()+`/x", via: "http://`+testkit.ClosedPort(t)+`"`, "default: reject")
	if _, err := (&Fetcher{}).Fetch(t.Context(), set, s, Answer{}); err == nil || !strings.HasPrefix(err.Error(), "upstream_refused: ") {
		t.Errorf("got %v", err)
	}
}

func TestFetchOfAServerThatIsDown(t *testing.T) {
	t.Parallel()
	s, set := sourceOf(t, `from: "http://`+testkit.ClosedPort(t)+`/`+token+`"`)
	if _, err := (&Fetcher{}).Fetch(t.Context(), set, s, Answer{}); err == nil || !strings.HasPrefix(err.Error(), "target_refused: ") || strings.Contains(err.Error(), token) {
		t.Errorf("got %v", err)
	}
	if _, err := (&Fetcher{timeout: 200 * time.Millisecond}).Fetch(t.Context(), set, at(s, "http://"+testkit.SilentListener(t)+"/"+token), Answer{}); err == nil {
		t.Error("a server that accepts no connection has answered")
	}
}

// A fetch that has ended leaves no connection, also not one whose handshake has not.
func TestFetchLeavesNoConnection(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	server := testkit.NewTCP(t, func(c net.Conn) {
		defer close(closed)
		_, _ = io.Copy(io.Discard, c) // and says nothing
	})
	s, set := sourceOf(t, `from: "https://`+server.Addr+`/x"`)
	_, err := (&Fetcher{timeout: 200 * time.Millisecond}).Fetch(t.Context(), set, s, Answer{})
	if err == nil || err.Error() != "no whole answer within 10 s" {
		t.Errorf("got %v", err)
	}
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("the connection is still open")
	}
}

// A server that answers 304 to a request without a condition has said nothing of the list.
func TestFetchBelievesOnlyA304ThatWasAskedFor(t *testing.T) {
	t.Parallel()
	server := provider(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	s, set := sourceOf(t, `from: "`+server.URL+`"`)
	if got, err := (&Fetcher{}).Fetch(t.Context(), set, s, Answer{Text: []byte(twoProxies)}); err == nil || err.Error() != "the answer is HTTP 304" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The error of a server without TLS says so.
func TestFetchFromAServerWithoutTLS(t *testing.T) {
	t.Parallel()
	s, set := sourceOf(t, `from: "https://`+provider(t, plainList).Listener.Addr().String()+`/x"`)
	if _, err := (&Fetcher{}).Fetch(t.Context(), set, s, Answer{}); err == nil || err.Error() != "the server speaks no TLS" {
		t.Errorf("got %v", err)
	}
}

// at returns s at another URL, unchecked.
func at(s *config.ListSource, url string) *config.ListSource {
	other := *s
	other.URL = config.NewSecret(url)
	return &other
}

func TestKeptListIsOfOneURLAndNobodyElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := func(key string) string {
		return `from: "https://bob:` + token + `@lists.example/` + token + `?key=` + key + `"`
	}
	s, _ := sourceOf(t, list("a"), "state_dir: "+dir)
	k := Kept{List: s.Name, From: s.Shown, URL: newFingerprint(s), Fetched: time.Now(), ETag: `"1"`, Text: []byte(twoProxies)}
	if err := save(s, k); err != nil {
		t.Fatal(err)
	}
	got := load(s)
	if got == nil || string(got.Text) != twoProxies || got.ETag != `"1"` || !got.Fetched.Equal(k.Fetched) {
		t.Fatalf("got %+v", got)
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil || len(files) != 1 || strings.Contains(files[0], token) || strings.Contains(files[0], "bob") {
		t.Fatalf("%v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil || strings.Contains(string(text), token) {
		t.Errorf("%s, %v", text, err)
	}
	if st, err := os.Stat(files[0]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if other, _ := sourceOf(t, list("b"), "state_dir: "+dir); load(other) != nil {
		t.Error("the list of another URL is used")
	}
	if err := os.Chmod(files[0], 0o622); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	if load(s) != nil {
		t.Error("a list is used that others may have written")
	}
	if err := os.Chmod(files[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // another may not chown
		if err := os.Chown(files[0], 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if load(s) != nil {
			t.Error("a list of another user is used")
		}
		if err := os.Chown(files[0], 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	link := files[0] + ".txt"
	if err := errors.Join(os.Rename(files[0], link), os.Symlink(link, files[0])); err != nil {
		t.Fatal(err)
	}
	if load(s) != nil {
		t.Error("a symbolic link is followed")
	}
	if err := os.Rename(link, files[0]); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 10, len(text) - len(twoProxies) - 1, len(text) - 2} {
		if err := os.WriteFile(files[0], text[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if load(s) != nil {
			t.Errorf("a file that ends after %d bytes is used", cut)
		}
	}
}
