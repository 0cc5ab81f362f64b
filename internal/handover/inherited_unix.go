//go:build unix

package handover

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// Inherited returns what the process that started this one has handed over; nil
// if that was no proxyd. Call it first, before anything starts a
// process, and once. keepAlive is set on every conn that comes from there: on
// those that are accepted, and on those that move.
func Inherited(keepAlive net.KeepAliveConfig) (*Parent, error) {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return nil, nil //nolint:nilnil // no parent is no error
	}
	_ = os.Unsetenv(variable)
	var given inheritance
	if err := json.Unmarshal([]byte(text), &given); err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	const first = 3
	for fd := first; fd <= first+len(given.Listeners); fd++ {
		syscall.CloseOnExec(fd)
	}
	c, err := takeConn(first)
	if err != nil {
		return nil, fmt.Errorf("the socket to the parent: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("%s is set, but descriptor %d is no socket to a parent; unset it", variable, first)
	}
	p := &Parent{PID: given.Parent, Listeners: &Listeners{}, wire: wire{conn: conn, keepAlive: keepAlive}}
	for i, name := range given.Listeners {
		f := os.NewFile(uintptr(first+1+i), name) //nolint:gosec // a descriptor is not negative
		if err := p.Listeners.add(f, name, keepAlive); err != nil {
			p.Failed(err)
			return nil, err
		}
	}
	return p, nil
}

// Activated returns the sockets that systemd opened for this process (socket
// activation), under their FileDescriptorName; nil if there are none. It
// removes the variables that name them.
func Activated(keepAlive net.KeepAliveConfig) (*Listeners, error) {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, nil //nolint:nilnil // none is no error
	}
	l := &Listeners{}
	var failed error
	for _, f := range files { // to the end, so that each is closed
		if err := l.add(f, f.Name(), keepAlive); err != nil && failed == nil {
			failed = err
		}
	}
	if failed != nil {
		l.Close()
		return nil, failed
	}
	return l, nil
}

// add takes a file, which is closed, as a listening socket.
func (l *Listeners) add(f *os.File, name string, keepAlive net.KeepAliveConfig) error {
	defer func() { _ = f.Close() }()
	ln, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("the socket %s that was handed over is not one to listen on: %w", name, err)
	}
	if tcp, ok := ln.(*net.TCPListener); ok && keepAlive.Enable {
		ln = &keepAliveListener{tcp, keepAlive}
	}
	l.left = append(l.left, Listener{name, ln})
	return nil
}
