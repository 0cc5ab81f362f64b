package isolate

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The messages between Start and its child, in this order. Command lines and
// environments are bytes: they need not be UTF-8.
type (
	// request says what to set up.
	request struct {
		Listen []string         // addresses to listen on
		Local  []netip.AddrPort // of other addresses than loopback: where Listen is reached
		Ports  []uint16         // of the host's loopback
	}
	// ready comes with the sockets.
	ready struct {
		Error   *stageError
		Sockets []socket // one for each descriptor, in order
	}
	// start lets the command begin.
	start struct{ Args, Environ [][]byte }
	// failed is the last message, sent only where the command could not be executed.
	failed struct{ Error *stageError }
)

// socket is what one of the sent descriptors is for.
type socket struct {
	Use    use
	Listen string `json:",omitempty"` // for useListen
	Port   uint16 `json:",omitempty"` // for usePort
}

// use is the purpose of a socket.
type use string

// The purposes.
const (
	useListen      use = "listen"
	usePort        use = "port"
	useTransparent use = "transparent"
	useUDP         use = "dns over udp"
	useTCP         use = "dns over tcp"
	useCounters    use = "counters"
	useRoot        use = "root directory"
)

// maxSockets is how many descriptors one message carries on Linux (SCM_MAX_FD).
const maxSockets = 253

// stageError is a system call of the set-up that failed.
type stageError struct {
	Stage stage
	Errno syscall.Errno // 0 where it was none
	Text  string
}

// Error returns the stage and the error.
func (e *stageError) Error() string { return fmt.Sprintf("%s: %s", e.Stage, e.Text) }

// Unwrap returns the system's error number.
func (e *stageError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

func newStageError(s stage, err error) *stageError {
	if err == nil {
		return nil
	}
	e := &stageError{Stage: s, Text: err.Error()}
	_ = errors.As(err, &e.Errno)
	return e
}

// maxMessage bounds a message: arguments and environment together are at most 6 MiB
// on Linux (a quarter of the stack's limit, itself capped).
const maxMessage = 64 << 20

// pipe is one end of the connection between Start and its child.
type pipe struct{ *net.UnixConn }

// newPipe returns both ends of a connection, the second one as a file for the child.
func newPipe() (pipe, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return pipe{}, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "isolate")
	ours, err := fromFile(os.NewFile(uintptr(fds[0]), "isolate"))
	if err != nil {
		theirs.Close()
	}
	return ours, theirs, err
}

// fromFile makes a pipe of a descriptor, which it takes.
func fromFile(f *os.File) (pipe, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return pipe{}, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return pipe{}, errors.New("the descriptor is no unix socket")
	}
	return pipe{u}, nil
}

// send sends a message, with descriptors.
func (p pipe) send(message any, fds ...int) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if len(fds) == 0 {
		_, err = p.Write(append(head, body...))
		return err
	}
	if _, _, err = p.WriteMsgUnix(head, unix.UnixRights(fds...), nil); err != nil {
		return err
	}
	_, err = p.Write(body)
	return err
}

// receive reads a message, and the descriptors that came with it. io.EOF means that
// the other end is closed.
func (p pipe) receive(message any) ([]*os.File, error) {
	head, oob := make([]byte, 4), make([]byte, unix.CmsgSpace(4*maxSockets))
	n, m, _, _, err := p.ReadMsgUnix(head, oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	files, err := received(oob[:m])
	if err == nil {
		_, err = io.ReadFull(p, head[n:])
	}
	size := binary.BigEndian.Uint32(head)
	if err == nil && size > maxMessage {
		err = errors.New("the message is too long")
	}
	if err == nil {
		body := make([]byte, size)
		if _, err = io.ReadFull(p, body); err == nil {
			err = json.Unmarshal(body, message)
		}
	}
	if err != nil {
		closeFiles(files)
		return nil, err
	}
	return files, nil
}

// received returns the descriptors of a control message.
func received(oob []byte) (files []*os.File, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeFiles(files)
			return nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "socket")) // close-on-exec: package net asks for it
		}
	}
	return files, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
