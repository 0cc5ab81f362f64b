package admin

import "syscall"

// private sets the mode of a socket before its file exists, so that no other
// process can connect between bind and chmod (unix(7); Linux takes the file's
// mode from the descriptor's).
func private(_, _ string, c syscall.RawConn) error {
	var err error
	if controlErr := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); controlErr != nil {
		return controlErr
	}
	return err
}
