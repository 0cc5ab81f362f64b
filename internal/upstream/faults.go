package upstream

import (
	"errors"
	"io"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"syscall"
	"time"
)

// isClosed reports whether the peer ended the connection.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err)
}

// noDNSFault is the fault of a look-up that no name server answered, nil for
// another failure. It says nothing of the upstream, nor of the target.
func noDNSFault(err error, whose string, took time.Duration) *failure.Error {
	e, ok := errors.AsType[*noDNS](err)
	if !ok {
		return nil
	}
	return failure.New(failure.Local, "cannot resolve %s: %s within %s", whose, e.Error(), printable.Seconds(took)).With(err, "check the name servers of this machine (/etc/resolv.conf)")
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
func dialFault(err error, took time.Duration) *failure.Error {
	if e, ok := errors.AsType[*failure.Error](err); ok {
		return e
	}
	if text := localFault(err); text != "" {
		return failure.New(failure.Local, "cannot be dialled: %s", text).With(err, "")
	}
	switch {
	case errnoKind(err) == dialRefused:
		return failure.New(failure.UpstreamRefused, "refused the connection").With(err, "is the proxy running at that address?")
	case isTimeout(err):
		return failure.New(failure.UpstreamTimeout, "did not accept TCP within %s", printable.Seconds(took)).With(err, "")
	case isClosed(err):
		return failure.New(failure.UpstreamProtocol, "closed the connection while it was being opened").With(err, "")
	}
	return failure.New(failure.UpstreamUnreachable, "cannot be reached (%s)", reason(err)).With(err, "check the network route to the proxy")
}

// targetFault classifies a failed direct connection. Whose fault silence is
// nobody can tell: an exchange may drop what one local address sends.
func targetFault(err error, took time.Duration) *failure.Error {
	if e, ok := errors.AsType[*failure.Error](err); ok {
		return e
	}
	if text := localFault(err); text != "" {
		return failure.New(failure.Local, "cannot dial: %s", text).With(err, "")
	}
	switch {
	case errnoKind(err) == dialRefused:
		return failure.New(failure.TargetRefused, "was refused by the target").With(err, "")
	case isTimeout(err):
		e := failure.New(failure.TargetTimeout, "was not answered by the target within %s", printable.Seconds(took)).With(err, "")
		e.Unsure = true
		return e
	}
	return failure.New(failure.TargetUnreachable, "cannot reach the target (%s)", reason(err)).With(err, "")
}

// reason is the innermost cause in the system's words, which name no address.
func reason(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return "network error"
}
