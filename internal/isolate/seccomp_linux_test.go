package isolate

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filterVariable has the program of the tests refuse a system call to itself, as the
// filters of container engines do.
const filterVariable = "ISOLATE_TEST_FILTER"

func filtered(call string) func(*exec.Cmd) {
	return func(c *exec.Cmd) { c.Env = append(c.Env, filterVariable+"="+call) }
}

// refuse has a system call fail with EPERM: clone with a new user namespace, socket for
// netlink, or mount.
func refuse(call string) error {
	equal, mask := uint16(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K), uint16(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K)
	number, test, argument := uint32(unix.SYS_MOUNT), mask, uint32(0)
	switch call {
	case "clone":
		number, argument = unix.SYS_CLONE, unix.CLONE_NEWUSER
	case "netlink":
		number, test, argument = unix.SYS_SOCKET, equal, unix.AF_NETLINK
	case "mount": // whatever its first argument, an address
		number, test, argument = unix.SYS_MOUNT, unix.BPF_JMP|unix.BPF_JGE|unix.BPF_K, 0
	}
	const load = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	filter := []unix.SockFilter{
		{Code: load, K: 0}, // the call's number
		{Code: equal, Jf: 3, K: number},
		{Code: load, K: 16}, // the lower half of its first argument
		{Code: test, Jf: 1, K: argument},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

func refuseAsAsked() {
	if call := os.Getenv(filterVariable); call != "" {
		if err := refuse(call); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(96)
		}
	}
}
