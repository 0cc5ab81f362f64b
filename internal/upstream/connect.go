package upstream

import (
	"proxyd/internal/failure"
	"strconv"
	"time"
)

// maxInterim is how many interim answers (1xx) an upstream may send first.
const maxInterim = 5

// httpConnect asks an HTTP proxy for a tunnel (RFC 9110 section 9.3.6). via
// is the value of a Via line, "" for none.
func (k *talk) httpConnect(t Target, c *credentials, via string) *failure.Error {
	b := append(k.buf[:0], "CONNECT "...)
	b = appendHostPort(b, t)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = appendHostPort(b, t)
	if c.given {
		b = append(append(b, "\r\nProxy-Authorization: "...), c.basic.Reveal()...)
	}
	if via != "" {
		b = append(append(b, "\r\nVia: "...), via...)
	}
	b = append(b, "\r\n\r\n"...)
	if fault := k.send("the CONNECT request", b); fault != nil {
		return fault
	}
	k.step, k.asked = "the CONNECT reply", true
	for range maxInterim + 1 {
		r, fault := k.head()
		switch {
		case fault != nil:
			return fault
		case r.status == 101:
			return &failure.Error{Class: failure.UpstreamProtocol, Status: r.status, Text: "switched protocols in answer to CONNECT"}
		case r.status < 200:
			continue
		case r.status < 300:
			return nil
		default:
			k.why(&r)
			return r.refusal(t, c)
		}
	}
	return &failure.Error{Class: failure.UpstreamProtocol, Text: "sent more than " + strconv.Itoa(maxInterim) + " interim answers to CONNECT"}
}

const (
	whyTime = 100 * time.Millisecond // a refusal's body is waited for so long; it mostly comes with the head
	whyRead = 1 << 10                // and so much of it is read
)

// why reads why the upstream refuses from the body, where no field has said it.
// The connection is of no more use then.
func (k *talk) why(r *reply) {
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

// head reads one response head and takes it off the buffer.
func (k *talk) head() (reply, *failure.Error) {
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
		if fault := k.receive(); fault != nil {
			return reply{}, fault
		}
	}
}

// garbageHead is the fault of a head that began well.
func (k *talk) garbageHead() *failure.Error {
	return &failure.Error{Class: failure.UpstreamProtocol, Text: "answered CONNECT with a malformed head", Hint: "check that it is a proxy"}
}
