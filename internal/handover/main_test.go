//go:build unix

package handover

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxyd/internal/testkit"
)

// part makes the test's own binary play another process's part.
const part = "HANDOVER_TEST_PART"

func TestMain(m *testing.M) {
	play, ok := parts[os.Getenv(part)]
	if !ok {
		if files, err := os.ReadDir("/proc/self/fd"); err == nil {
			for _, f := range files {
				fd, _ := strconv.Atoi(f.Name())
				flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
				fromOutside[f.Name()] = errno == 0 && flags&syscall.FD_CLOEXEC == 0
			}
		}
		flag.Parse()
		_ = flag.Set("test.parallel", "8") // most of them wait for another process
		goleak.VerifyTestMain(m)
		return
	}
	if err := play(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, os.Getenv(part)+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

var ourKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}

// fromOutside are the descriptors with which whoever runs the tests has started
// this process, and which any process that it starts has too.
var fromOutside = map[string]bool{}

// parts are filled in by the tests that need them.
var parts = map[string]func() error{}

// add gives a test file's parts a name.
func add(name string, play func() error) bool {
	parts[name] = play
	return true
}

// ready is what each child does first.
func ready(formats ...string) (*Parent, error) {
	p, err := Inherited(ourKeepAlive)
	if err != nil || p == nil {
		return p, errors.Join(err, errors.New("nothing inherited"))
	}
	_, err = p.Ready(formats...)
	return p, err
}

// hang stands still until the process is killed; the test that does not kill it
// must not find it here for ever.
func hang() error {
	time.Sleep(time.Minute)
	return errors.New("it was not killed")
}

// upgrade starts the test's binary in a part.
func upgrade(t testing.TB, u *Upgrader, play string, o StartOptions) *Child {
	t.Helper()
	if o.Path == "" {
		o.Path = os.Args[0]
	}
	o.Env = append(os.Environ(), append(o.Env, part+"="+play, "GORACE=atexit_sleep_ms=0")...) // else each end takes a second
	c, err := u.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// soon ends when nothing takes so long unless it is broken.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	t.Cleanup(cancel)
	return ctx
}

// listening is a listener that answers every conn with who it is.
func listening(t testing.TB) Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go answer(ln) // ends when ln is closed
	return Listener{"main", ln}
}

// answer sends each client the id of this process.
func answer(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = fmt.Fprint(c, os.Getpid())
		_ = c.Close()
	}
}

// who connects and reads which process answers.
func who(t testing.TB, addr net.Addr) string {
	t.Helper()
	c, err := net.DialTimeout(addr.Network(), addr.String(), testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	said, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

// isGone reports whether a process has ended and was reaped.
func isGone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func mustHave(t testing.TB, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("the error is %v, want %q in it", err, p)
		}
	}
}
