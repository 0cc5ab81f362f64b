package health

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"proxyd/internal/upstream"
)

const (
	headLimit  = 16 << 10 // of an exchange's answer
	bodyLimit  = 64 << 10
	maxInterim = 5 // interim answers (1xx)
)

// earlyConn is a connection whose early bytes are read first.
type earlyConn struct {
	net.Conn
	read io.Reader
}

// Read reads what came early, then the connection.
func (l earlyConn) Read(p []byte) (int, error) { return l.read.Read(p) }

func withEarly(conn *upstream.Conn) net.Conn {
	if len(conn.Early) == 0 {
		return conn.Conn
	}
	return earlyConn{conn.Conn, io.MultiReader(bytes.NewReader(conn.Early), conn.Conn)}
}

// askExchange asks the exchange over an open connection. The end of ctx ends it.
func (p *probe) askExchange(ctx context.Context, opened *upstream.Conn) Result {
	stop := context.AfterFunc(ctx, func() { _ = opened.Conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	u, err := url.Parse(p.ask.URL)
	if err != nil || u.Host == "" {
		return Result{Verdict: Unknown, Text: "the probe's address is no URL", Hint: "set another one as exchanges.NAME.probe"}
	}
	conn := withEarly(opened)
	if u.Scheme == "https" || u.Scheme == "wss" {
		var bad *Result
		if conn, bad = p.secure(conn); bad != nil {
			return *bad
		}
	}
	return p.request(ctx, conn, u)
}

// request sends one GET and judges the answer.
func (p *probe) request(ctx context.Context, conn net.Conn, u *url.URL) Result {
	start := time.Now()
	key := ""
	var b bytes.Buffer
	b.WriteString("GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nUser-Agent: " + cmp.Or(p.ask.UserAgent, config.DefaultUserAgent) + "\r\nAccept: */*\r\n")
	step := StepHTTP
	if p.ask.websocket() {
		key, step = newKey(), StepUpgrade
		b.WriteString("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n")
	} else {
		b.WriteString("Accept-Encoding: identity\r\nConnection: close\r\n\r\n")
	}
	if _, err := conn.Write(b.Bytes()); err != nil {
		return brokenOff("the request", err, time.Since(start))
	}
	limited := &io.LimitedReader{R: conn, N: headLimit + bodyLimit}
	r := bufio.NewReader(limited)
	resp, err := answer(r)
	if err != nil {
		if errors.Is(err, errNotHTTP) {
			return Result{Verdict: Unknown, Text: "the exchange's answer is not HTTP", Hint: "the probe's address may be outdated: set another one as exchanges.NAME.probe"}
		}
		return brokenOff("the answer", err, time.Since(start))
	}
	p.steps.since(step, start)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols && p.ask.websocket() {
		if resp.Header.Get("Sec-Websocket-Accept") != acceptFor(key) {
			return Result{Verdict: Unknown, Status: 101, Text: "HTTP 101 with a wrong Sec-WebSocket-Accept"}
		}
		return p.firstMessage(ctx, conn, r, subscribes(u))
	}
	body := bodyOf(resp)
	got := read(resp.StatusCode, resp.Header, body, time.Now())
	if p.ask.websocket() && got.Verdict == OK {
		got = Result{Verdict: Unknown, Status: resp.StatusCode, Text: got.Text + " where a 101 was asked for", Hint: "the probe's address may be outdated: set another one as exchanges.NAME.probe"}
	}
	if p.ask.keep != nil {
		*p.ask.keep = body
	}
	return got
}

// bodyOf returns the part of an answer's body that is judged. Guards send pages
// compressed though the request did not ask for it.
func bodyOf(resp *http.Response) []byte {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if !strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		return body
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	text, _ := io.ReadAll(io.LimitReader(z, bodyLimit))
	return text
}

// errNotHTTP is an answer in another protocol.
var errNotHTTP = errors.New("not HTTP")

// answer reads the head of the final answer.
func answer(r *bufio.Reader) (*http.Response, error) {
	get := &http.Request{Method: http.MethodGet}
	for range maxInterim + 1 {
		if _, err := r.Peek(1); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(r, get)
		switch {
		case err != nil && (isTimeout(err) || isEnd(err)):
			return nil, err
		case err != nil:
			return nil, errNotHTTP
		case resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols:
			return resp, nil
		}
		_ = resp.Body.Close()
	}
	return nil, errNotHTTP
}

// brokenOff returns the result of a conversation that ended too soon. Through a
// proxy it cannot be known which side ended it.
func brokenOff(at string, err error, took time.Duration) Result {
	if isTimeout(err) {
		return Result{Verdict: Verdict(failure.TargetTimeout), Text: "connected, then silent at " + at + " for " + printable.Seconds(took), Unsure: true}
	}
	return Result{Verdict: Verdict(failure.TargetUnreachable), Text: "connected, and the connection ended at " + at, Unsure: true}
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}

// isEnd reports whether the far end closed or reset the connection.
func isEnd(err error) bool {
	_, broken := errors.AsType[*net.OpError](err)
	return broken || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
