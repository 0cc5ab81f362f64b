//go:build unix

package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// withDescriptors calls do with the descriptors of conns. They stay open meanwhile, and as
// they are: File would make copies, and it would be unclear who closes them.
func withDescriptors(conns []syscall.Conn, fds []int, do func(fds []int) error) (err error) {
	if len(conns) == 0 {
		return do(fds)
	}
	raw, err := conns[0].SyscallConn()
	if err != nil {
		return err
	}
	closed := raw.Control(func(fd uintptr) { err = withDescriptors(conns[1:], append(fds, int(fd)), do) })
	return errors.Join(closed, err)
}

// sendFiles writes a frame together with the descriptors of conns.
func (w *wire) sendFiles(frame []byte, conns []*net.TCPConn) error {
	list := make([]syscall.Conn, len(conns))
	for i, c := range conns {
		list[i] = c
	}
	return withDescriptors(list, make([]int, 0, len(conns)), func(fds []int) error {
		n, _, err := w.conn.WriteMsgUnix(frame, syscall.UnixRights(fds...), nil)
		if err == nil && n < len(frame) {
			err = errors.New("a message was cut off")
		}
		return err
	})
}

// receiveFiles fills a frame and takes the descriptors that come with it, which
// no child of ours inherits (net asks the kernel so).
func (w *wire) receiveFiles(frame []byte) ([]*net.TCPConn, error) {
	oob := make([]byte, syscall.CmsgSpace(4*(maxFiles+3)))
	var fds []int
	var lost error
	for have := 0; have < len(frame); {
		n, oobn, flags, _, err := w.conn.ReadMsgUnix(frame[have:], oob)
		if err == nil && oobn > 0 {
			var more []int
			if more, lost = parseRights(oob[:oobn]); flags&syscall.MSG_CTRUNC != 0 {
				lost = lostFiles{errors.New("descriptors were lost; raise the limit of open files")}
			}
			fds = append(fds, more...)
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			closeAll(fds)
			if have > 0 {
				err = unexpected(err)
			}
			return nil, err
		}
		have += n
	}
	if lost != nil {
		closeAll(fds)
		return nil, lost
	}
	return w.take(fds)
}

// parseRights finds the descriptors among control messages.
func parseRights(oob []byte) (fds []int, err error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, lostFiles{err}
	}
	for i := range messages {
		more, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return fds, lostFiles{err}
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

// take makes conns of descriptors, all or none; the descriptors are closed.
func (w *wire) take(fds []int) ([]*net.TCPConn, error) {
	conns := make([]*net.TCPConn, 0, len(fds))
	for i, fd := range fds {
		c, err := takeConn(fd)
		if err == nil {
			tcp, ok := c.(*net.TCPConn)
			if ok {
				if w.keepAlive.Enable {
					_ = tcp.SetKeepAliveConfig(w.keepAlive) // fails only on a conn that its peer has reset
				}
				conns = append(conns, tcp)
				continue
			}
			_ = c.Close()
			err = fmt.Errorf("a descriptor is no TCP socket but %T", c)
		}
		closeConns(conns)
		closeAll(fds[i+1:])
		return nil, lostFiles{err}
	}
	return conns, nil
}

// takeConn makes a conn of a descriptor, which is closed.
func takeConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "handed over") //nolint:gosec // a descriptor is not negative
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
}

// socketPair makes two connected sockets that no child inherits by accident.
func socketPair() (ours *net.UnixConn, theirs int, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, -1, os.NewSyscallError("socketpair", err)
	}
	c, err := takeConn(fds[0])
	if err != nil {
		_ = syscall.Close(fds[1])
		return nil, -1, err
	}
	return c.(*net.UnixConn), fds[1], nil
}
