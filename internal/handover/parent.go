package handover

import (
	"errors"
	"fmt"
	"net"
)

// Parent is the process that started this one as its successor. Its methods are
// for one goroutine, in the order Ready, Serving, Receive; Failed instead of
// Ready.
type Parent struct {
	PID       int
	Listeners *Listeners

	wire
}

// ErrParentGone is what Ready, Serving and Receive return when the parent has ended
// or given this process up. What was committed is this process's; it may serve
// on, for it has the listeners.
var ErrParentGone = errors.New("the process that started this one is gone, or has given it up")

// Failed reports to the parent why this process cannot serve. It is to end then.
func (p *Parent) Failed(why error) {
	_ = p.send(message{Type: "failed", Text: why.Error()}, nil, nil) // the parent sees our end too
	_ = p.conn.Close()
}

// Ready reports to the parent that this process could serve, and the formats of
// things that it can take over. It waits until it may, and returns what it must
// know before its first connection. Serving follows when connections are
// accepted.
func (p *Parent) Ready(formats ...string) (state []byte, err error) {
	err = p.send(message{Type: "ready", Version: version, Formats: formats}, nil, nil)
	if err == nil {
		_, state, err = p.expect("go")
	}
	if err != nil {
		return nil, p.lost(err)
	}
	return state, nil
}

// Serving reports to the parent that this process accepts connections.
func (p *Parent) Serving() error {
	if err := p.send(message{Type: "serving"}, nil, nil); err != nil {
		return p.lost(err)
	}
	p.Listeners.removeFiles()
	return nil
}

// Receive takes what moves until the parent says that nothing more does, and
// returns its last message. It blocks as long as the parent pleases.
//
// hold looks at a batch and prepares all that can fail, without touching what
// passes over the conns. It returns what is to be done when the batch is this
// process's own: resume, which cannot fail. An error refuses the batch. Until
// resume is called Receive closes the conns if the batch is not committed.
func (p *Parent) Receive(hold func([]Item) (resume func(), err error)) (last []byte, err error) {
	defer func() { _ = p.conn.Close() }()
	p.setTimeout(0)
	for {
		m, data, conns, err := p.receive()
		switch {
		case err != nil && !recoverable(err):
			return nil, p.lost(err)
		case m.Type == "done":
			closeConns(conns)
			return data, nil
		case m.Type != "batch":
			closeConns(conns)
			return nil, p.lost(fmt.Errorf("the message is %q, not a batch", m.Type))
		}
		if err := p.takeBatch(m, data, conns, err, hold); err != nil {
			return nil, p.lost(err)
		}
	}
}

// takeBatch answers one batch, and owns it once it is committed. lost is what
// became of its descriptors in transit. The error is the wire's.
func (p *Parent) takeBatch(m message, data []byte, conns []*net.TCPConn, lost error, hold func([]Item) (func(), error)) error {
	var resume func()
	items, err := split(m, data, conns)
	if lost != nil {
		err = lost
	}
	if err == nil {
		resume, err = hold(items)
	}
	if err != nil {
		closeConns(conns) // before the answer: the parent goes on with its own
		return p.send(message{Type: "refused", Batch: m.Batch, Text: err.Error()}, nil, nil)
	}
	err = p.send(message{Type: "held", Batch: m.Batch}, nil, nil)
	if err == nil {
		m.Type = "commit"
		var commit message
		if commit, _, err = p.expect(m.Type); err == nil && commit.Batch != m.Batch {
			err = fmt.Errorf("batch %d is committed, not %d", commit.Batch, m.Batch)
		}
	}
	if err != nil {
		closeConns(conns)
		return err
	}
	resume()
	return nil
}

// lost ends the talk with the parent.
func (p *Parent) lost(err error) error {
	_ = p.conn.Close()
	return fmt.Errorf("%w: %w", ErrParentGone, err)
}
