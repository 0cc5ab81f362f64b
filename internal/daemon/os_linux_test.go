package daemon

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A dead client must be found whether or not it has sent a request.
func TestAcceptedConnectionsHaveKeepalive(t *testing.T) {
	ln, err := bind("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	raw, err := s.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct {
		what              string
		level, name, want int
	}{
		{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
		{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 10},
		{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
		{"TCP_NODELAY", syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
	} {
		err := raw.Control(func(fd uintptr) {
			if got, err := syscall.GetsockoptInt(int(fd), o.level, o.name); err != nil || got != o.want {
				t.Errorf("%s is %d (%v), want %d", o.what, got, err, o.want)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A process that has ended is not alive, even before its parent has waited for it.
func TestZombieIsNotAlive(t *testing.T) {
	t.Parallel()
	if !alive(os.Getpid()) {
		t.Error("this process is not alive")
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)); bytes.Contains(b, []byte(") Z ")) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("it does not end: %s", b)
		}
	}
	if alive(cmd.Process.Pid) {
		t.Error("a process that has ended is alive")
	}
}

// The descriptors in use are those that the system lists.
func TestOpenFilesAreCounted(t *testing.T) {
	list := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names) - 1 // without the directory's own
	}
	if n, _ := openFiles(); n < list()-5 || n > list()+5 { // other tests open some, too
		t.Errorf("%d are in use, and the system lists %d", n, list())
	}
}

// A connection of multipath TCP falls back to plain TCP: the destination from before a
// redirection is not to be had of another one.
func TestListenersHaveNoMultipathConnections(t *testing.T) {
	t.Parallel()
	l, err := bind("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{Timeout: 5 * time.Second}
	d.SetMultipathTCP(true)
	c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if multipath, err := accepted.(*net.TCPConn).MultipathTCP(); multipath || err != nil {
		t.Errorf("multipath: %v, %v", multipath, err)
	}
}
