package upstream

import (
	"context"
	"errors"
	"net"
	"os"
)

// dialKind sorts what can go wrong while a TCP connection is made, by how much
// it says about the far end.
type dialKind uint8

const (
	dialOther       dialKind = iota // no words for it
	dialLocal                       // our own machine: no such source address, no ports, no descriptors
	dialUnreachable                 // no route
	dialTimeout
	dialReset
	dialRefused
)

// errnoKind sorts an error of a dial.
func errnoKind(err error) dialKind {
	var iface *noInterface
	if errors.As(err, &iface) || errors.Is(err, errNoFamily) {
		return dialLocal
	}
	if isTimeout(err) {
		return dialTimeout
	}
	for _, e := range errnoKinds {
		if errors.Is(err, e.errno) {
			return e.kind
		}
	}
	return dialOther
}

// isTimeout reports an end by the clock, whoever noticed it.
func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// isReset reports that the far end threw the connection away.
func isReset(err error) bool { return errnoKind(err) == dialReset }

// IsReset reports whether a peer ended its connection with a reset.
func IsReset(err error) bool { return isReset(err) }
