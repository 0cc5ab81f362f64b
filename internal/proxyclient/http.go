package proxyclient

import (
	"net/http"
	"strconv"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

// maxInterim is how many interim answers (1xx) an upstream may send first.
const maxInterim = 5

// httpConnect asks an HTTP proxy for a tunnel (RFC 9110 section 9.3.6). via
// is the value of a Via line, "" for none.
func (k *handshake) httpConnect(to Addr, c *Credentials, via string) *failure.Error {
	b := append(k.buf[:0], "CONNECT "...)
	b = to.appendTo(b)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = to.appendTo(b)
	if c.given {
		b = append(append(b, "\r\nProxy-Authorization: "...), c.basic.Reveal()...)
	}
	if via != "" {
		b = append(append(b, "\r\nVia: "...), via...)
	}
	b = append(b, "\r\n\r\n"...)
	if e := k.send("the CONNECT request", b); e != nil {
		return e
	}
	k.step, k.asked = "the CONNECT reply", true
	for range maxInterim + 1 {
		r, e := k.head()
		switch {
		case e != nil:
			return e
		case r.status == 101:
			return &failure.Error{Class: failure.UpstreamProtocol, Status: r.status, Text: "switched protocols in answer to CONNECT"}
		case r.status < 200:
			continue
		case r.status < 300:
			return nil
		default:
			k.why(&r)
			return r.refusal(to, c)
		}
	}
	return &failure.Error{Class: failure.UpstreamProtocol, Text: "sent more than " + strconv.Itoa(maxInterim) + " interim answers to CONNECT"}
}

const (
	whyTime = 100 * time.Millisecond // how long to wait for a refusal's body; it mostly comes with the head
	whyRead = 1 << 10                // how much of it is read
)

// why reads from the body why the proxy refuses, unless a field has said it. The
// connection is of no more use then.
func (k *handshake) why(r *reply) {
	if r.rank > 0 || r.notWords {
		return
	}
	_ = k.conn.SetReadDeadline(time.Now().Add(whyTime))
	for {
		whole := r.length > 0 && k.have >= r.length
		if r.why = r.firstLine(k.buf[:k.have], whole); r.why != "" || whole || r.length == 0 || k.have >= whyRead {
			return
		}
		if e := k.receive(); e != nil {
			r.why = r.firstLine(k.buf[:k.have], e.Class == failure.UpstreamProtocol) // its end, and not that of the time
			return
		}
	}
}

// head reads one response head and removes it from the buffer.
func (k *handshake) head() (reply, *failure.Error) {
	var scan headScan
	for {
		end, ok := scan.more(k.buf[:k.have])
		if !ok {
			return reply{}, k.garbage()
		}
		if end > 0 {
			r, ok := parseReply(k.buf[:end])
			if !ok {
				return reply{}, k.garbageHead()
			}
			k.take(end)
			return r, nil
		}
		if k.have >= headLimit {
			return reply{}, &failure.Error{
				Class: failure.UpstreamProtocol, Text: "answered CONNECT with a head of more than " + strconv.Itoa(headLimit>>10) + " KiB",
				Hint: "check that it is a proxy",
			}
		}
		if e := k.receive(); e != nil {
			return reply{}, e
		}
	}
}

// garbageHead returns the error of a malformed head that began well.
func (k *handshake) garbageHead() *failure.Error {
	return &failure.Error{Class: failure.UpstreamProtocol, Text: "answered CONNECT with a malformed head", Hint: "check that it is a proxy"}
}

// AuthError returns the error of a proxy's 407 to a plain request for to, which is
// for proxyd and not for the client.
func (c *Client) AuthError(resp *http.Response, to Addr) *failure.Error {
	r := reply{status: resp.StatusCode, reason: printable.Clean(http.StatusText(resp.StatusCode), 60)}
	for name, values := range resp.Header {
		for _, v := range values {
			r.field(name, v)
		}
	}
	e := r.refusal(to, c.Credentials)
	e.Text = "answered " + r.quote(c.Credentials) + " to a request for " + to.String()
	return e
}
