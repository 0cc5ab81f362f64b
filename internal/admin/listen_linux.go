package admin

import "syscall"

// private gives a socket the mode that its file will have, before there is one:
// nobody can slip in between bind and chmod (unix(7); Linux takes the file's
// mode from the descriptor's).
func private(_, _ string, c syscall.RawConn) error {
	var err error
	if fault := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); fault != nil {
		return fault
	}
	return err
}
