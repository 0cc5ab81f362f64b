package upstream

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

// fault makes the error of one attempt through one upstream.
func fault(c Class, format string, args ...any) *Error {
	return &Error{Class: c, Text: fmt.Sprintf(format, args...)}
}

// with adds the cause, and the hint when it is not "".
func (e *Error) with(err error, hint string) *Error {
	e.Err = err
	if hint != "" {
		e.Hint = hint
	}
	return e
}

// isClosed reports whether the peer ended the connection.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err)
}

// noDNSFault is the fault of a look-up that no name server answered, nil for
// another failure. It says nothing of the upstream, nor of the target.
func noDNSFault(err error, whose string, took time.Duration) *Error {
	e, ok := errors.AsType[*noDNS](err)
	if !ok {
		return nil
	}
	return fault(ClassLocal, "cannot resolve %s: %s within %s", whose, e.Error(), seconds(took)).with(err, "check the name servers of this machine (/etc/resolv.conf)")
}

// localFault says what is wrong with our own machine, "" if nothing is.
func localFault(err error) string {
	if n, ok := errors.AsType[*noInterface](err); ok && !errors.Is(err, syscall.EPERM) {
		return n.Error()
	}
	switch {
	case errors.Is(err, errNoFamily):
		return "the source address is of the other family than the addresses to dial"
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EADDRINUSE):
		return "the source address is not on this machine, or no local port is free"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "this machine is out of file descriptors"
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		return "this machine is out of socket memory"
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return "this machine does not permit the connection (a firewall, or a missing capability)"
	case errnoKind(err) == dialLocal: // windows has numbers of its own
		return "this machine cannot open the connection (" + reason(err) + ")"
	}
	return ""
}

// dialFault classifies a failed TCP connection to an upstream.
func dialFault(err error, took time.Duration) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if text := localFault(err); text != "" {
		return fault(ClassLocal, "cannot be dialled: %s", text).with(err, "")
	}
	switch {
	case errnoKind(err) == dialRefused:
		return fault(ClassUpstreamRefused, "refused the connection").with(err, "is the proxy running at that address?")
	case isTimeout(err):
		return fault(ClassUpstreamTimeout, "did not accept TCP within %s", seconds(took)).with(err, "")
	case isClosed(err):
		return fault(ClassUpstreamProtocol, "closed the connection while it was being opened").with(err, "")
	}
	return fault(ClassUpstreamUnreachable, "cannot be reached (%s)", reason(err)).with(err, "check the network route to the proxy")
}

// targetFault classifies a failed direct connection. Whose fault silence is
// nobody can tell: an exchange may drop what one local address sends.
func targetFault(err error, took time.Duration) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if text := localFault(err); text != "" {
		return fault(ClassLocal, "cannot dial: %s", text).with(err, "")
	}
	switch {
	case errnoKind(err) == dialRefused:
		return fault(ClassTargetRefused, "was refused by the target").with(err, "")
	case isTimeout(err):
		e := fault(ClassTargetTimeout, "was not answered by the target within %s", seconds(took)).with(err, "")
		e.Unsure = true
		return e
	}
	return fault(ClassTargetUnreachable, "cannot reach the target (%s)", reason(err)).with(err, "")
}

// reason is the innermost cause in the system's words, which name no address.
func reason(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return "network error"
}
