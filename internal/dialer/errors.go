package dialer

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

// dialKind sorts what can go wrong while a TCP connection is made, by how much
// it says about the far end.
type dialKind uint8

const (
	dialOther       dialKind = iota // an unknown error
	dialLocal                       // this machine: no such source address, no ports, no descriptors
	dialUnreachable                 // no route
	dialTimeout
	dialReset
	dialRefused
)

// errno is what an error number of the system means for a dial.
type errno struct {
	number syscall.Errno
	kind   dialKind
	text   string // what is wrong with this machine; "" if nothing is
}

// The texts of errnos.
const (
	textSource  = "the source address is not on this machine, or no local port is free"
	textFiles   = "this machine is out of file descriptors"
	textMemory  = "this machine is out of socket memory"
	textForbids = "this machine does not permit the connection (a firewall, or a missing capability)"
	textDevice  = "this machine cannot open the connection (no such device)"
)

// errnoOf returns what the error number in err means, nil if it holds none of errnos.
func errnoOf(err error) *errno {
	for i := range errnos {
		if errors.Is(err, errnos[i].number) {
			return &errnos[i]
		}
	}
	return nil
}

// kindOf sorts an error of a dial.
func kindOf(err error) dialKind {
	_, iface := errors.AsType[*interfaceError](err)
	switch e := errnoOf(err); {
	case iface, errors.Is(err, errNoFamily):
		return dialLocal
	case IsTimeout(err):
		return dialTimeout
	case e != nil:
		return e.kind
	}
	return dialOther
}

// localText says what is wrong with this machine, "" if nothing is.
func localText(err error) string {
	if n, ok := errors.AsType[*interfaceError](err); ok && !errors.Is(err, syscall.EPERM) {
		return n.Error()
	}
	if errors.Is(err, errNoFamily) {
		return "the source address is of the other family than the addresses to dial"
	}
	if e := errnoOf(err); e != nil {
		return e.text
	}
	return ""
}

// IsTimeout reports whether err is the end of a deadline.
func IsTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// IsReset reports whether the peer ended its connection with a reset.
func IsReset(err error) bool { return kindOf(err) == dialReset }

// IsClosed reports whether the peer ended the connection.
func IsClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || IsReset(err)
}

// DNSError returns the error of a look-up that no name server answered, nil
// for another failure. Neither the upstream nor the target is to
// blame for it. whose says whose name it was, took how long the look-up lasted.
func DNSError(err error, whose string, took time.Duration) *failure.Error {
	e, ok := errors.AsType[*NoDNSError](err)
	if !ok {
		return nil
	}
	within := ""
	if IsTimeout(err) || took >= time.Second {
		within = " within " + printable.Seconds(took)
	}
	return failure.New(failure.Local, "cannot resolve %s: %s%s", whose, e.Error(), within).With(err, "check the name servers of this machine (/etc/resolv.conf)")
}

// UpstreamError returns the *failure.Error of a TCP connection to an upstream that failed with
// err after took.
func UpstreamError(err error, took time.Duration) *failure.Error {
	if e, ok := errors.AsType[*failure.Error](err); ok {
		return e
	}
	if text := localText(err); text != "" {
		return failure.New(failure.Local, "cannot be dialled: %s", text).With(err, "")
	}
	switch {
	case kindOf(err) == dialRefused:
		return failure.New(failure.UpstreamRefused, "refused the connection").With(err, "is the proxy running at that address?")
	case IsTimeout(err):
		return failure.New(failure.UpstreamTimeout, "did not accept TCP within %s", printable.Seconds(took)).With(err, "")
	case IsClosed(err):
		return failure.New(failure.UpstreamProtocol, "closed the connection while it was being opened").With(err, "")
	}
	return failure.New(failure.UpstreamUnreachable, "cannot be reached (%s)", reason(err)).With(err, "check the network route to the proxy")
}

// TargetError returns the *failure.Error of a direct connection that failed with err after
// took. Silence may
// be the target's or the source address's: an exchange may drop what one local
// address sends.
func TargetError(err error, took time.Duration) *failure.Error {
	if e, ok := errors.AsType[*failure.Error](err); ok {
		return e
	}
	if text := localText(err); text != "" {
		return failure.New(failure.Local, "cannot dial: %s", text).With(err, "")
	}
	switch {
	case kindOf(err) == dialRefused:
		return failure.New(failure.TargetRefused, "was refused by the target").With(err, "")
	case IsTimeout(err):
		e := failure.New(failure.TargetTimeout, "was not answered by the target within %s", printable.Seconds(took)).With(err, "")
		e.Unsure = true
		return e
	}
	return failure.New(failure.TargetUnreachable, "cannot reach the target (%s)", reason(err)).With(err, "")
}

// reason returns the innermost cause in the system's words, which name no address.
func reason(err error) string {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e.Error()
	}
	return "network error"
}
