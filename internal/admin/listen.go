package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Listen opens an admin address: host:port, or unix:/path. The socket's file is
// its owner's alone (mode 0600). One without a listener is replaced; one that is
// in use, or is no socket, is refused. The listener is a *net.TCPListener or a
// *net.UnixListener, which removes its file when closed.
func Listen(address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix:")
	if !isUnix {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return nil, listenError(address, err)
		}
		return ln, nil
	}
	if err := makeRoom(path); err != nil {
		return nil, fmt.Errorf("admin %s: %w", address, err)
	}
	lc := net.ListenConfig{Control: private}
	ln, err := lc.Listen(context.Background(), "unix", path) // binding waits for nothing
	if err != nil {
		return nil, listenError(address, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("admin %s: %w", address, err)
	}
	return ln, nil
}

// makeRoom removes a socket that has no listener.
func makeRoom(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode()&os.ModeSocket == 0:
		return errors.New("there is a file that is no socket; remove it, or name another path")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return errors.New("another process answers there, perhaps another proxyd; stop it, or name another path")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("there is a socket, and whether it is in use is not known: %w", err)
	}
	return os.Remove(path)
}

func listenError(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf(`admin %s: the address is taken, perhaps by another proxyd; set admin to another one, unix:/path, or "" for none`, address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("admin %s: not permitted; use a port from 1024 on, or a directory that this user may write to", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("admin %s: this machine does not have that address; set admin to 127.0.0.1:8878", address)
	}
	return fmt.Errorf("admin %s: %w", address, err)
}
