package relay

import (
	"context"
	"net"
)

// Flow is one running relay.
type Flow struct{}

// Wait blocks until the flow has ended and Options.Done has returned, or the
// flow has been frozen.
func (f *Flow) Wait() Stats { panic("written in the next commit") }

// Bytes reads the counts so far.
func (f *Flow) Bytes() (up, down int64) { panic("written in the next commit") }

// Conns are the two connections, for a move after Freeze.
func (f *Flow) Conns() (client, server net.Conn) { panic("written in the next commit") }

// Close ends the flow now, with ReasonClosed. It does not wait.
func (f *Flow) Close() { panic("written in the next commit") }

// Freeze stops the flow without closing or losing anything, so that State and
// the two sockets can go to another process. After that the flow is over: the
// conns are the caller's, and Done is not called. If ctx ends first, or the
// flow has ended, it returns an error, and the flow goes on as if nothing had
// happened.
func (f *Flow) Freeze(ctx context.Context) (State, error) { panic("written in the next commit") }
