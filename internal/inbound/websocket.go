package inbound

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"proxyd/internal/tunnel"
)

const (
	maxReplyHead = 16 << 10
	maxInterim   = 5                // answers 1xx before the real one
	replyTime    = 10 * time.Second // for it, or longer if timeout_seconds leaves more
)

// upgrade serves a websocket in plain HTTP: a connection to the server is opened as
// for CONNECT, the head is sent on in origin-form (in absolute form to an HTTP
// upstream that denies CONNECT), and what the server answers
// is passed on; after 101 exactly as it is.
func (c *client) upgrade(h *head) {
	fields := upgradeFields(h, &c.req)
	c.in.use(len(h.raw))
	r := c.complete(&c.req.Request)
	t, refusal := c.open(r)
	if refusal != nil {
		c.sendRefusal(answer{Refusal: refusal}, 0)
		return
	}
	line := "GET " + c.req.path + " HTTP/1.1\r\n"
	if f := t.Forward(); f != nil {
		line = "GET http://" + c.req.authority + c.req.path + " HTTP/1.1\r\n" + f.Fields.Reveal()
	}
	reply, err := c.askServer(t, append([]byte(line), fields...))
	if f := t.Forward(); f != nil {
		f.Answered()
	}
	switch {
	case errors.Is(err, errLeft):
		t.Abandon(err)
		c.close()
	case errors.Is(err, errProxyAuth) && t.Forward() != nil:
		c.sendRefusal(answer{Refusal: t.Refuse(tunnel.Refusal{
			Class: failure.UpstreamAuth, Text: err.Error(), Hint: "check the user and the password in its URL",
		})}, 0)
	case err != nil:
		c.badAnswer(t, err)
	case bytes.HasPrefix(reply[len("HTTP/1.x "):], []byte("101")):
		t.SetEarly(reply)
		c.carry(t)
	default:
		c.passAnswer(t, reply)
	}
}

// passAnswer passes on one answer that is no upgrade. The client's bytes go no
// further: behind it they would be requests that have not been routed.
func (c *client) passAnswer(t *tunnel.Tunnel, reply []byte) {
	conn, _ := t.Conn()
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(reply), conn)), &http.Request{Method: http.MethodGet}) //nolint:bodyclose // the tunnel is closed below, and nothing else holds it
	if err != nil {
		c.badAnswer(t, err)
		return
	}
	head, _, _ := bytes.Cut(reply, []byte("\r\n\r\n"))
	stripResponse(resp.Header, head)
	resp.Close = true
	body := &endingReader{ReadCloser: resp.Body, conn: conn}
	resp.Body = body
	w := startWatch(c.tcp, false, func() {
		body.left.Store(true)
		conn.SetDeadline(longAgo)
	})
	out := &countingWriter{w: c}
	err = resp.Write(out)
	w.stop()
	if body.left.Load() || out.err != nil {
		body.end = nil
	}
	t.Answered(out.n, body.end)
	if err != nil { // what is not whole must not look whole
		c.reset()
		c.close()
		return
	}
	c.linger()
}

// badAnswer refuses the client when the server's answer is malformed.
func (c *client) badAnswer(t *tunnel.Tunnel, err error) {
	r := tunnel.Refusal{Class: failure.TargetProtocol, Text: "the server's answer to the websocket upgrade: " + printable.ASCII(err.Error())}
	switch {
	case isTimeout(err):
		r = tunnel.Refusal{
			Class: failure.TargetTimeout, ProxyError: "http_response_timeout",
			Text: "the server did not answer the websocket upgrade in time", Hint: "if it is only slow, raise timeout_seconds",
		}
	case t.Forward() != nil:
		r.Class = failure.UpstreamProtocol
	}
	c.sendRefusal(answer{Refusal: t.Refuse(r)}, 0)
}

// endingReader is an answer's body: each read may wait answerIdle. It remembers
// the error that ended the body early.
type endingReader struct {
	io.ReadCloser
	conn net.Conn
	left atomic.Bool // the client has gone; conn's deadlines are in the past
	end  error
}

// Read reads on.
func (r *endingReader) Read(p []byte) (int, error) {
	r.conn.SetReadDeadline(time.Now().Add(answerIdle))
	if r.left.Load() {
		r.conn.SetReadDeadline(longAgo)
	}
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.end = err
	}
	return n, err
}

// countingWriter counts what it writes.
type countingWriter struct {
	w   io.Writer
	n   int64
	err error
}

// Write writes on.
func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.n += int64(n)
	w.err = err
	return n, err
}

// errProxyAuth is an answer for us and not for the client.
var errProxyAuth = errors.New("the websocket upgrade was answered with 407 Proxy Authentication Required")

// upgradeFields returns what the server is sent: the client's fields as they
// were written, without those that concern the client's connection to us.
func upgradeFields(h *head, r *request) []byte {
	b := make([]byte, 0, len(h.raw)+64)
	b = append(b, "Host: "+r.authority+"\r\n"...)
	if r.userinfo != "" && h.value("authorization") == "" {
		b = append(b, "Authorization: "+r.authorization()+"\r\n"...)
	}
	for _, f := range h.fields {
		if f.is("host") || f.is("max-forwards") || f.isHopByHop(h) || hasPrefixFold(f.name, "proxy-") {
			continue
		}
		b = appendField(b, f)
	}
	return append(b, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"...)
}

func appendField(b []byte, f field) []byte {
	b = append(append(b, f.name...), ": "...)
	return append(append(b, f.value...), "\r\n"...)
}

// isHopByHop reports whether a field concerns one connection alone.
func (f field) isHopByHop(h *head) bool {
	for _, name := range hopByHop {
		if f.is(strings.ToLower(name)) {
			return true
		}
	}
	return h.has("connection", string(f.name))
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && strings.EqualFold(string(b[:len(prefix)]), prefix)
}

// askServer sends the head and waits for the head of the answer. It returns
// everything that has come, with the head made fit for the client. It ends when
// the client leaves.
func (c *client) askServer(t *tunnel.Tunnel, onward []byte) ([]byte, error) {
	conn, early := t.Conn()
	limit := time.Now().Add(c.s.reply)
	if budget := t.Deadline(); budget.After(limit) {
		limit = budget
	}
	conn.SetDeadline(limit)
	gone := make(chan struct{})
	w := startWatch(c.tcp, false, func() {
		close(gone)
		conn.SetDeadline(longAgo)
	})
	reply, err := exchangeHeads(conn, early, onward)
	w.stop()
	select {
	case <-gone:
		return nil, errLeft
	default:
	}
	conn.SetDeadline(time.Time{})
	return reply, err
}

func exchangeHeads(conn net.Conn, got, onward []byte) ([]byte, error) {
	if _, err := conn.Write(onward); err != nil {
		return nil, err
	}
	in := input{conn: conn, b: append(make([]byte, 0, maxReplyHead), got...)}
	for range maxInterim + 1 {
		n, err := replyHead(&in)
		if err != nil {
			return nil, err
		}
		raw := in.pending()[:n]
		status, f := parseReply(raw)
		if f != nil {
			return nil, f
		}
		if status == 407 {
			return nil, errProxyAuth
		}
		if status == 101 || status >= 200 {
			return in.pending(), nil
		}
		in.use(n)
	}
	return nil, errors.New("more than 5 interim answers")
}

// replyHead reads until a reply's head is complete and returns its length.
func replyHead(in *input) (int, error) {
	for {
		b := in.pending()
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			return i + 4, nil
		}
		if len(b) >= maxReplyHead {
			return 0, errors.New("its head is longer than 16 KiB")
		}
		if err := in.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				return 0, errors.New("it closed the connection instead")
			}
			return 0, err
		}
	}
}

// parseReply checks a reply's head and returns its status.
func parseReply(raw []byte) (int, *refusal) {
	line, rest, _ := bytes.Cut(raw, []byte("\r\n"))
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return 0, bad("it begins with " + quote(line) + ", which is not HTTP")
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil || status < 100 || status > 999 {
		return 0, bad("it begins with " + quote(line) + ", which is not HTTP")
	}
	for {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if len(line) == 0 {
			return status, nil
		}
		if _, f := parseField(line); f != nil {
			return 0, f
		}
	}
}
