package isolate

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// childName is the first argument of the process that sets the namespaces up.
const childName = "proxyd: isolate"

// pipeFD is the descriptor of that process's pipe.
const pipeFD = 3

// IsChild reports whether this process was started by Start, to set the namespaces
// up: its main then calls Child and nothing else.
func IsChild() bool { return len(os.Args) == 1 && os.Args[0] == childName }

// Child sets up the namespaces that it is in, and executes the command. It returns
// only if that failed, with the exit code; the other end of the pipe has the error.
func Child() int {
	runtime.LockOSThread() // capabilities are a thread's; the one that executes keeps none
	p, err := fromFile(os.NewFile(pipeFD, "pipe"))
	if err != nil {
		return 1
	}
	var r request
	if _, err := p.receive(&r); err != nil {
		return 1 // Start's process has ended
	}
	if err := setUp(p, &r); err != nil {
		_ = p.send(ready{Error: err})
		return 1
	}
	var s start
	if _, err := p.receive(&s); err != nil {
		return 1
	}
	_ = p.send(failed{execute(p, texts(s.Args), texts(s.Environ))})
	return 1
}

// setUp makes everything but the command, and sends the sockets.
func setUp(p pipe, r *request) *stageError {
	if err := bringUp(); err != nil {
		return newStageError(stageLoopback, err)
	}
	s, err := openSockets(r)
	if err != nil {
		return newStageError(stageSockets, err)
	}
	defer s.close() // the other process has them then
	if err := setRules(s.transparentPort, s.dnsPort, r.Local); err != nil {
		return newStageError(stageRules, err)
	}
	if err := privateFiles(); err != nil {
		return newStageError(stageMounts, err)
	}
	if err := s.add(useRoot, openRoot); err != nil {
		return newStageError(stageMounts, err)
	}
	return newStageError(stageSockets, p.send(ready{Sockets: s.uses}, s.fds()...))
}

// execute gives up what the command must not have, and becomes the command.
func execute(p pipe, args, environ []string) *stageError {
	if err := dropCapabilities(); err != nil {
		return newStageError(stageCapabilities, err)
	}
	path, err := exec.LookPath(args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) { // Start's caller has decided about that
		return newStageError(stageCommand, notFound(err))
	}
	if err := closeOnExec(); err != nil {
		return newStageError(stageCapabilities, err)
	}
	return newStageError(stageCommand, syscall.Exec(path, args, environ)) //nolint:gosec // what the user asks for
}

// notFound makes an error number of what LookPath returns.
func notFound(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return syscall.EACCES
	}
	return syscall.ENOENT
}

// dropCapabilities takes every capability from this thread, for good: the bounding
// set too, so that no set-uid program and no file gives one back.
func dropCapabilities() error {
	for c := uintptr(0); ; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); errors.Is(err, unix.EINVAL) {
			break // past the kernel's last one
		} else if err != nil {
			return os.NewSyscallError("prctl(PR_CAPBSET_DROP)", err)
		}
	}
	none := [2]unix.CapUserData{} // of the ambient set, too: it is a part of these
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	return os.NewSyscallError("prctl(PR_SET_NO_NEW_PRIVS)", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

// closeOnExec marks every descriptor but 0 to 2: what a shell or a supervisor has
// left open here is not the command's.
func closeOnExec() error {
	err := unix.CloseRange(3, ^uint(0)>>1&0xffffffff, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd") // a kernel before 5.11
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

func texts(list [][]byte) (s []string) {
	for _, b := range list {
		s = append(s, string(b))
	}
	return s
}
