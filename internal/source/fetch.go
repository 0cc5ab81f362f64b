package source

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/target"
	"proxyd/internal/upstream"
)

const (
	fetchTimeout = 10 * time.Second // for the whole answer, redirects included
	maxAnswer    = 8 << 20          // bytes of a list
	maxRedirects = 5
)

// Answer is what a fetch has brought.
type Answer struct {
	Same         bool // the text is still the one that ETag and LastModified belong to
	Text         []byte
	ETag         string
	LastModified string
}

// conditional reports whether only a text that differs is asked for.
func (a Answer) conditional() bool { return a.Text != nil && a.ETag+a.LastModified != "" }

// reason is an error of this package's own, which repeats nothing of an answer.
type reason string

// Error returns the text.
func (r reason) Error() string { return string(r) }

// Fetcher fetches lists. The zero value is ready for use.
type Fetcher struct {
	Roots   *x509.CertPool // that vouch for the servers of https URLs; nil for the system's
	timeout time.Duration  // of tests; 0: fetchTimeout
}

// Fetch asks for the list of s through the outbound that it names; known is what is known
// of it already. The error says what is wrong in words that are no secret.
func (f *Fetcher) Fetch(ctx context.Context, set *upstream.Set, s *config.ListSource, known Answer) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(f.timeout, fetchTimeout))
	defer cancel()
	req, err := request(ctx, s, known)
	if err != nil {
		return Answer{}, err
	}
	transport := &http.Transport{
		// The context is the fetch's: net/http goes on with a handshake whose request has ended.
		DialContext:     func(_ context.Context, _, at string) (net.Conn, error) { return dial(ctx, set, s, at) },
		TLSClientConfig: &tls.Config{RootCAs: f.Roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHead,
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, before []*http.Request) error {
		next.Header.Del("Referer") // it may be a secret, and logs have it
		return checkRedirect(next.URL, before)
	}}
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, readable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // it has been read, or is not wanted
	if resp.StatusCode == http.StatusNotModified && known.conditional() {
		return Answer{Same: true}, nil
	}
	if err := checkHead(resp); err != nil {
		return Answer{}, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return Answer{}, readable(ctx, err)
	case len(text) > maxAnswer:
		return Answer{}, tooLarge()
	}
	return Answer{Text: text, ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified")}, nil
}

// request returns the request for a list.
func request(ctx context.Context, s *config.ListSource, known Answer) (*http.Request, error) {
	u, err := url.Parse(s.URL.Reveal())
	if err != nil {
		return nil, errors.New("the URL is invalid") // config has read it before
	}
	user := u.User
	u.User = nil
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, errors.New("the URL is invalid")
	}
	if user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	req.Header.Set("User-Agent", "proxyd")
	req.Header.Set("Accept", "text/plain, text/csv, */*;q=0.1")
	req.Header.Set("Accept-Encoding", "identity")
	if known.conditional() {
		set(req.Header, "If-None-Match", known.ETag)
		set(req.Header, "If-Modified-Since", known.LastModified)
	}
	return req, nil
}

func set(h http.Header, name, value string) {
	if value != "" {
		h.Set(name, value)
	}
}

// checkRedirect refuses to follow an answer to another scheme or host.
func checkRedirect(next *url.URL, before []*http.Request) error {
	first := before[0].URL
	switch {
	case len(before) > maxRedirects:
		return reason(fmt.Sprintf("more than %d redirects", maxRedirects))
	case next.Scheme != first.Scheme:
		return reason("a redirect from " + first.Scheme + " to " + schemeWord(next.Scheme) + " is not followed")
	case !strings.EqualFold(hostPort(next), hostPort(first)):
		return reason("a redirect to another host is not followed")
	}
	return nil
}

func schemeWord(scheme string) string {
	if scheme == "http" || scheme == "https" {
		return scheme
	}
	return "another scheme"
}

// hostPort returns the host and the port of a URL, the usual port if it has none.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// checkHead returns why the body of an answer is not to be read as a list.
func checkHead(resp *http.Response) error {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	switch kind = strings.ToLower(strings.TrimSpace(kind)); {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("the answer is HTTP %d", resp.StatusCode)
	case kind == "text/html" || kind == "application/xhtml+xml":
		return errors.New("the answer is a page of HTML, not a list")
	case !strings.EqualFold(resp.Header.Get("Content-Encoding"), "identity") && resp.Header.Get("Content-Encoding") != "":
		return errors.New("the answer is compressed, which was not asked for")
	case resp.ContentLength > maxAnswer:
		return tooLarge()
	case resp.ContentLength < 0 && len(resp.TransferEncoding) == 0:
		return errors.New("the answer does not say how long it is, so that half of it would pass for all of it")
	}
	return nil
}

func tooLarge() error { return fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20) }

// dial opens a connection to a host and a port through the outbound of s. It is closed when
// ctx ends.
func dial(ctx context.Context, set *upstream.Set, s *config.ListSource, at string) (net.Conn, error) {
	host, port, err := target.ParseHostPort(at)
	if err != nil {
		return nil, reason("the URL has no valid host")
	}
	pool := set.Direct()
	if s.Via.Action == config.Use {
		if pool = set.Pool(s.Via.Pool); pool == nil {
			return nil, reason("there is no such outbound") // it is in the same configuration
		}
	}
	dialing, cancel := context.WithTimeout(ctx, s.Via.Timeout)
	defer cancel()
	opened, err := pool.Dial(dialing, upstream.Target{Host: host.Name, IP: host.IP, Port: port, Trusted: true, NoLink: true})
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: opened.Conn, release: sync.OnceFunc(opened.Release)}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	if len(opened.Early) > 0 {
		_ = c.Close()
		return nil, reason("the upstream sent bytes before the server was asked")
	}
	return c, nil
}

// conn releases what it holds when it is closed.
type conn struct {
	net.Conn
	release func()
}

// Close closes the connection.
func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// readable returns an error in an operator's words, with nothing of the URL or of the
// answer, which net/http quotes.
func readable(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*failure.Error](err); ok {
		text := e.Error()
		if e.Hint != "" {
			text += "; " + e.Hint
		}
		return fmt.Errorf("%s: %s", e.Class, text)
	}
	if own, ok := errors.AsType[reason](err); ok {
		return own
	}
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isNet && timeout.Timeout():
		return fmt.Errorf("no whole answer within %d s", fetchTimeout/time.Second)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("the answer is incomplete: the connection ended before its end")
	case errors.Is(err, http.ErrSchemeMismatch):
		return errors.New("the server speaks no TLS")
	}
	return fromServer(err)
}

// fromServer returns what is wrong with what a server has sent.
func fromServer(err error) error {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("the certificate is not trusted: %w", e.Err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return errors.New("the server speaks no TLS")
	}
	if e, ok := errors.AsType[*net.OpError](err); ok { // of the connection, or an alert of TLS
		return fmt.Errorf("the connection ended: %w", e.Err)
	}
	if e := errors.Unwrap(err); e != nil && strings.HasPrefix(e.Error(), "tls: ") {
		return e
	}
	return errors.New("the answer is not valid HTTP")
}
