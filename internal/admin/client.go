package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"proxyd/internal/config"
)

// Client asks a running daemon. Its errors are an *UnreachableError, a
// *RefusedError or a *RejectedError; times are limited by the contexts alone.
type Client struct {
	address string
	base    string
	token   config.Secret
	http    *http.Client
}

// UnreachableError is a daemon that does not answer.
type UnreachableError struct {
	Address string
	Refused bool // nothing listens there; else it may be slow, or something else
	Denied  bool // a socket that this user may not connect to
	Err     error
}

// Error returns a sentence that says what to do.
func (e *UnreachableError) Error() string {
	if e.Refused {
		return fmt.Sprintf("nothing answers at the admin address %s: is proxyd running? start it with: proxyd run; or name its address: --admin ADDR", e.Address)
	}
	if e.Denied {
		return fmt.Sprintf("the admin address %s is for the user that proxyd runs as (%v): run this as that user, or give all users of this machine a port: admin: 127.0.0.1:8878 in its file, which applies when it is saved", e.Address, e.Err)
	}
	return fmt.Sprintf("no answer from a proxyd at the admin address %s: %v; name its address: --admin ADDR", e.Address, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// RefusedError is a daemon that does not take the request: a missing token, an
// unknown listener, what this build cannot do.
type RefusedError struct {
	Status int
	Text   string // the daemon's sentence
}

// Error returns the daemon's sentence.
func (e *RefusedError) Error() string { return e.Text }

// RejectedError is a daemon that has tried and could not; nothing has changed.
type RejectedError struct {
	Faults []string
}

// Error returns the errors, one a line.
func (e *RejectedError) Error() string { return strings.Join(e.Faults, "\n") }

// NewClient returns a client for host:port or unix:/path. An unspecified host is
// this machine. The token may be zero. It opens nothing.
func NewClient(address string, token config.Secret) *Client {
	c := &Client{address: address, base: "http://" + address, token: token}
	dial := (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	network, at := "tcp", strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/")
	if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
		network, at, c.base = "unix", path, "http://localhost"
	} else {
		if host, port, err := net.SplitHostPort(at); err == nil {
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				at = net.JoinHostPort("127.0.0.1", port)
			}
		}
		c.base = "http://" + at
	}
	c.http = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{ // no Proxy: the variables lead to proxyd itself
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, network, at) },
			DisableKeepAlives: true,
		},
	}
	return c
}

// Status asks what the daemon is doing.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.get(ctx, "/api/v1/status", &s)
}

// Route asks for the routes of hosts ("HOST" or "HOST:PORT"). kind and listener
// may be "".
func (c *Client) Route(ctx context.Context, hosts []string, kind, listener string) (list []Route, err error) {
	q := url.Values{}
	if kind != "" {
		q.Set("kind", kind)
	}
	if listener != "" {
		q.Set("listener", listener)
	}
	for some := range slices.Chunk(hosts, maxHosts) {
		q["host"] = some
		var answers []Route
		if err := c.get(ctx, "/api/v1/route?"+q.Encode(), &answers); err != nil {
			return nil, err
		}
		list = append(list, answers...)
	}
	return list, nil
}

// Healthy asks whether the daemon is alive, or with ready whether it takes new
// connections. listener, if not "", is an address that it has to have: several
// proxyds may have been left the same admin address. Another one is a
// *RefusedError with status 404.
func (c *Client) Healthy(ctx context.Context, ready bool, listener string) error {
	path := "/healthz?"
	if ready {
		path = "/readyz?"
	}
	if listener != "" {
		path += url.Values{"listener": {listener}}.Encode()
	}
	return c.get(ctx, path, nil)
}

// Reload makes the daemon load its file again, or with dryRun say what would
// change. With errors in the file the error is a *RejectedError; the report
// comes too.
func (c *Client) Reload(ctx context.Context, dryRun bool) (r Report, err error) {
	path := "/-/reload"
	if dryRun {
		path += "?dry_run=1"
	}
	resp, err := c.ask(ctx, http.MethodPost, path)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return r, refused(resp)
	}
	if err := c.decode(resp, &r); err != nil {
		return r, err
	}
	if len(r.Faults) > 0 {
		return r, &RejectedError{r.Faults}
	}
	return r, nil
}

// Upgrade makes the daemon hand over to the binary on disk, with its tunnels
// if move is set. progress is given each step.
func (c *Client) Upgrade(ctx context.Context, move bool, progress func(string)) error {
	path := "/-/upgrade"
	if move {
		path += "?move=1"
	}
	resp, err := c.ask(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusConflict:
		return &RejectedError{[]string{sentence(resp)}}
	default:
		return refused(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		why, failed := strings.CutPrefix(lines.Text(), upgradeFailed)
		switch {
		case failed:
			return &RejectedError{[]string{why}}
		case lines.Text() == upgradeDone:
			return nil
		}
		progress(lines.Text())
	}
	cause := lines.Err()
	if cause == nil {
		cause = io.ErrUnexpectedEOF
	}
	return &UnreachableError{Address: c.address, Err: fmt.Errorf("it closed the connection before it reported how the upgrade ended (%w); run: proxyd status", cause)}
}

// Drain keeps new connections away from an upstream, for one exchange or for
// all (""), or ends that. The answer is the daemon's sentence.
func (c *Client) Drain(ctx context.Context, upstream, exchange string, on bool) (string, error) {
	path := "/-/resume"
	if on {
		path = "/-/drain"
	}
	q := url.Values{"upstream": {upstream}}
	if exchange != "" {
		q.Set("exchange", exchange)
	}
	resp, err := c.ask(ctx, http.MethodPost, path+"?"+q.Encode())
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return sentence(resp), nil
	case http.StatusUnprocessableEntity:
		return "", &RejectedError{[]string{sentence(resp)}}
	}
	return "", refused(resp)
}

// Tunnels asks for the live tunnels that match, the quietest first.
func (c *Client) Tunnels(ctx context.Context, f Filter) (list []Tunnel, err error) {
	return list, rejected(c.get(ctx, "/api/v1/tunnels?"+f.Query().Encode(), &list))
}

// Close ends the tunnels that match, spread over a time, or with dryRun only says
// which. The answer is the daemon's sentence; if none matches the error is a
// *RejectedError.
func (c *Client) Close(ctx context.Context, f Filter, over time.Duration, dryRun bool) (string, error) {
	q := f.Query()
	if over > 0 {
		q.Set("over", over.String())
	}
	if dryRun {
		q.Set("dry_run", "1")
	}
	resp, err := c.ask(ctx, http.MethodPost, "/-/close?"+q.Encode())
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", rejected(refused(resp))
	}
	return sentence(resp), nil
}

// rejected returns err, as a *RejectedError if the daemon has found nothing of the
// names that it was given.
func rejected(err error) error {
	no, ok := errors.AsType[*RefusedError](err)
	if ok && (no.Status == http.StatusUnprocessableEntity || no.Status == http.StatusNotFound) {
		return &RejectedError{[]string{no.Text}}
	}
	return err
}

// get asks for JSON; v is nil when only the status counts.
func (c *Client) get(ctx context.Context, path string, v any) error {
	resp, err := c.ask(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	if v == nil {
		return nil
	}
	return c.decode(resp, v)
}

// ask sends a request, and answers the challenge where the token is wanted: the
// token itself never leaves (challenge.go). Nothing is done before it is answered.
func (c *Client) ask(ctx context.Context, method, path string) (*http.Response, error) {
	return c.askFor(ctx, method, path, "")
}

// askFor asks for a content type, "" for any.
func (c *Client) askFor(ctx context.Context, method, path, accept string) (*http.Response, error) {
	nonce := ""
	for range 3 { // the process may be replaced between a challenge and its answer
		resp, err := c.send(ctx, method, path, accept, nonce)
		if err != nil {
			return nil, err
		}
		if nonce = nonceOf(resp); nonce == "" || c.token.IsZero() {
			return resp, nil
		}
		_ = resp.Body.Close()
	}
	return nil, &RefusedError{http.StatusUnauthorized, "the token is not the daemon's: it has to be the value of admin.token there"}
}

// send sends one request; nonce is of the challenge that it answers, "" for none.
func (c *Client) send(ctx context.Context, method, path, accept, nonce string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, http.NoBody)
	if err != nil {
		return nil, &UnreachableError{Address: c.address, Err: errors.New("that is no address; write 127.0.0.1:8878 or unix:/path")}
	}
	if method == http.MethodPost {
		req.Header.Set("X-Proxyd", "1")
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	if nonce != "" {
		req.Header.Set("Authorization", challengeScheme+` nonce="`+nonce+`", mac="`+proof(c.token, nonce, method, req.URL.RequestURI())+`"`)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.Header.Get("Server") != serverName {
		_ = resp.Body.Close()
		return nil, &UnreachableError{Address: c.address, Err: errors.New("something else listens there")}
	}
	resp.Body = newHarmless(resp.Body)
	return resp, nil
}

// unreachable drops what net/http says around the cause.
func (c *Client) unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	denied := errors.Is(err, fs.ErrPermission) && strings.HasPrefix(c.address, "unix:")
	refused := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
	return &UnreachableError{Address: c.address, Refused: refused, Denied: denied, Err: err}
}

const maxAnswer = 256 << 20

func (c *Client) decode(resp *http.Response, v any) error {
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return &UnreachableError{Address: c.address, Err: fmt.Errorf("its answer cannot be read: %w", err)}
	}
	return nil
}

func refused(resp *http.Response) error { return &RefusedError{resp.StatusCode, sentence(resp)} }

// sentence returns an answer's text.
func sentence(resp *http.Response) string {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if s := strings.TrimSpace(string(b)); s != "" {
		return s
	}
	return resp.Status
}
