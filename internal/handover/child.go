package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// Upgrader starts next processes, one at a time. It lives as long as this
// process. The zero value is ready.
type Upgrader struct {
	mu       sync.Mutex
	child    *Child // the last one
	replaced bool   // it serves
}

// Child is the next process, as this one sees it. Its methods are for one
// goroutine, in the order Ready, Go, Move …, Finish.
type Child struct {
	PID int

	wire
	upgrader  *Upgrader
	process   *os.Process
	exited    chan struct{}    // closed when it has ended and was reaped
	state     *os.ProcessState // how; before exited is closed not to be read
	step      time.Duration    // for an answer to a batch
	serves    time.Duration    // from go to serving
	listeners []Listener
	version   int
	formats   []string
	batches   int
}

// Ready waits until the child is ready to serve. If it fails, ends, or is not
// ready when ctx ends, it is killed and reaped, and the error says why.
func (c *Child) Ready(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	m, _, _, err := c.receive()
	stop()
	switch {
	case err == nil && m.Type == "ready":
		c.version, c.formats = m.Version, m.Formats
		return nil
	case err == nil && m.Type == "failed":
		c.kill(time.Second) // it is about to end by itself
		return fmt.Errorf("the new process (PID %d) cannot start: %s", c.PID, m.Text)
	case err == nil:
		err = fmt.Errorf("it said %q, not that it is ready", m.Type)
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		err = fmt.Errorf("it was not ready in time (%w)", context.Cause(ctx))
	}
	return c.failed(err)
}

// failed makes sure that the child is no more, and returns what went wrong.
func (c *Child) failed(err error) error {
	grace := time.Duration(0)
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		grace = time.Second // it has closed its socket, so it is ending
	}
	if c.kill(grace) {
		return fmt.Errorf("the new process (PID %d) was stopped: %w", c.PID, err)
	}
	return fmt.Errorf("the new process (PID %d) ended before it served: %v; its reasons are in the log above", c.PID, c.state)
}

// kill ends the child unless it ends by itself within grace, and reaps it.
func (c *Child) kill(grace time.Duration) (killed bool) {
	_ = c.conn.Close()
	select {
	case <-c.exited:
		return false
	case <-time.After(grace):
	}
	_ = c.process.Kill()
	<-c.exited
	return true
}

// Go lets the child accept connections, and returns when it does: this process
// must then accept no more, and closes its listeners (the child has them too),
// but serves what it has accepted. state is what the child must know before its
// first connection. After an error the child is no more; this process goes on.
func (c *Child) Go(state []byte) error {
	keepFile(c.listeners, true) // before the child can be the only one who listens there
	c.setTimeout(c.serves)
	err := c.send(message{Type: "go"}, [][]byte{state}, nil)
	if err == nil {
		_, _, err = c.expect("serving")
	}
	if err != nil {
		keepFile(c.listeners, false)
		return c.failed(err)
	}
	c.upgrader.mu.Lock()
	c.upgrader.replaced = true
	c.upgrader.mu.Unlock()
	return nil
}

// Takes reports whether the child understands what is written in a format.
func (c *Child) Takes(format string) bool {
	return c.version == version && slices.Contains(c.formats, format)
}

// Move hands items over, in as many batches as it takes, and returns how many of
// them are the child's now, from the front; this process's copies of their conns
// are to be closed then. The others are still this process's. An error that is
// ErrRefused leaves the connection to the child open; after any other it is closed.
func (c *Child) Move(items []Item) (moved int, err error) {
	for moved < len(items) {
		n := batchLen(items[moved:])
		if n == 0 {
			return moved, errors.New("a single one is more than a message holds")
		}
		if err := c.move(items[moved : moved+n]); err != nil {
			if !errors.Is(err, ErrRefused) {
				_ = c.conn.Close() // before anything goes on here: see the package comment
			}
			return moved, err
		}
		moved += n
	}
	return moved, nil
}

// batchLen is how many items make one batch.
func batchLen(items []Item) (n int) {
	size, files := 0, 0
	for _, i := range items {
		size, files = size+len(i.Data), files+len(i.Conns)
		if files > maxFiles || size > maxData || n > 0 && size > batchData {
			break
		}
		n++
	}
	return n
}

// move hands one batch over. Nil means that the commit is written.
func (c *Child) move(items []Item) error {
	c.batches++
	m := message{Type: "batch", Batch: c.batches}
	var data [][]byte
	var conns []*net.TCPConn
	for _, i := range items {
		m.Items = append(m.Items, sizes{len(i.Data), len(i.Conns)})
		data, conns = append(data, i.Data), append(conns, i.Conns...)
	}
	c.setTimeout(c.step)
	if err := c.send(m, data, conns); err != nil {
		return err
	}
	answer, _, none, err := c.receive()
	closeConns(none)
	switch {
	case err != nil:
		return err
	case answer.Type == "refused" && answer.Batch == c.batches:
		return fmt.Errorf("%w: %s", ErrRefused, answer.Text)
	case answer.Type != "held" || answer.Batch != c.batches:
		return fmt.Errorf("the answer to batch %d is %q to batch %d", c.batches, answer.Type, answer.Batch)
	}
	c.setTimeout(c.step)
	return c.send(message{Type: "commit", Batch: c.batches}, nil, nil)
}

// Finish notifies the child that nothing more moves. state is what it should know
// of the last moments here; it reads it even when this process has ended.
func (c *Child) Finish(state []byte) error {
	c.setTimeout(c.step)
	err := c.send(message{Type: "done"}, [][]byte{state}, nil)
	return errors.Join(err, c.conn.Close())
}

// Kill ends the child and reaps it: an upgrade that is called off before Go.
func (c *Child) Kill() { c.kill(0) }

// Signal sends the child a signal.
func (c *Child) Signal(s os.Signal) error { return c.process.Signal(s) }

// gone reports whether the child has ended.
func (c *Child) gone() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}
