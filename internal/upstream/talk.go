package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

// headLimit is the most that an upstream may say before the way is open.
const headLimit = 16 << 10

// scratch holds what handshakes write and read. Most are done in a few dozen
// bytes, and none holds its buffer once the way is open.
var scratch = sync.Pool{New: func() any { return new([2 << 10]byte) }}

// talk is one handshake with one upstream on a new connection.
type talk struct {
	conn   net.Conn
	scheme config.Scheme
	buf    []byte // pooled until an answer outgrows it
	have   int    // bytes of buf that were received and not yet taken
	step   string // what is being waited for, for people
	since  time.Time
	asked  bool // the upstream has the whole request: time is now spent on the target
}

// interruptOn makes the I/O of conn fail as soon as ctx ends. No goroutine
// waits for that meanwhile.
func interruptOn(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// settle ends what interruptOn began. It turns a success into a fault when ctx
// has ended meanwhile: conn has its deadline in the past, or is about to.
func settle(stop func() bool, fault *failure.Error) *failure.Error {
	if !stop() && fault == nil {
		return &failure.Error{Class: failure.UpstreamTimeout, Text: "opened the way just when the time was over"}
	}
	return fault
}

// rest is what was received behind the last answer, nil if nothing.
func (k *talk) rest() []byte {
	if k.have == 0 {
		return nil
	}
	return append([]byte(nil), k.buf[:k.have]...)
}

// send writes one message in one write.
func (k *talk) send(step string, message []byte) *failure.Error {
	k.step, k.since = step, time.Now()
	if _, err := k.conn.Write(message); err != nil {
		return k.broken(err)
	}
	return nil
}

// receive reads what there is, at least one byte, behind what it has.
func (k *talk) receive() *failure.Error {
	if k.have == len(k.buf) {
		bigger := make([]byte, headLimit)
		copy(bigger, k.buf[:k.have])
		k.buf = bigger
	}
	n, err := k.conn.Read(k.buf[k.have:])
	k.have += n
	if n == 0 && err != nil {
		return k.broken(err)
	}
	return nil
}

// receiveAll reads until at least n bytes are there.
func (k *talk) receiveAll(n int) *failure.Error {
	for k.have < n {
		if fault := k.receive(); fault != nil {
			return fault
		}
	}
	return nil
}

// take drops the first n received bytes.
func (k *talk) take(n int) {
	k.have = copy(k.buf, k.buf[n:k.have])
}

// garbage is the fault of an answer in the wrong protocol.
func (k *talk) garbage() *failure.Error { return garbage(k.buf[:k.have], k.scheme) }

// mayBeOther is the hint for a proxy that says nothing: one of another protocol
// waits for a line that never comes.
const mayBeOther = "it may speak another protocol: check the scheme and the port in its URL; if it is only slow, raise timeout_seconds"

// broken puts a failed read or write into words.
func (k *talk) broken(err error) *failure.Error {
	e := &failure.Error{Class: failure.UpstreamProtocol, Err: err}
	switch {
	case dialer.IsTimeout(err):
		e.Class = failure.UpstreamTimeout
		if k.asked {
			e.Class, e.Unsure = failure.TargetTimeout, true
		}
		e.Text = "accepted TCP, then silent at " + k.step + " for " + printable.Seconds(time.Since(k.since))
		if k.have == 0 && k.scheme != config.SchemeHTTP {
			e.Hint = mayBeOther
		}
		if k.have > 0 {
			e.Text = "sent only a part of " + k.step + " in " + printable.Seconds(time.Since(k.since))
		}
	case alertOf(err) != nil: // in TLS 1.3 our side is open before a certificate of ours is judged
		return tlsFault(err)
	case errors.Is(err, io.EOF) && k.have > 0:
		e.Text = "closed the connection in the middle of " + k.step
	case errors.Is(err, io.EOF):
		e.Text = "closed the connection at " + k.step
	case dialer.IsReset(err):
		e.Text = "reset the connection at " + k.step
	default:
		e.Text = "broke off at " + k.step
	}
	return e
}
