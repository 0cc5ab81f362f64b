package isolate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"proxyd/internal/testkit"
)

// TestMain makes this binary what Start executes again, and a program that runs a
// command isolated (isolated below), for tests as another user.
func TestMain(m *testing.M) {
	if IsChild() {
		os.Exit(Child())
	}
	if o := os.Getenv("ISOLATE_TEST_RUN"); o != "" {
		_ = os.Unsetenv("ISOLATE_TEST_RUN")
		refuseAsAsked()
		os.Exit(runProgram(o))
	}
	os.Exit(m.Run())
}

// run is what the program of the tests runs.
type run struct {
	Options Options
	Args    []string
}

// runProgram runs a command isolated. Its connections get one line: where they were
// to go, by address and name; then what they send, back.
func runProgram(text string) int {
	var o run
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	names := NewNames()
	n, err := Start(o.Options, names)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		return 98
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan struct{})
	go func() { defer close(served); n.Serve(ctx) }()
	for _, l := range n.Transparent {
		go accept(l, func(c *net.TCPConn) string {
			at := originalDestination(c)
			name, _ := names.Name(at.Addr())
			return fmt.Sprintf("to %s %s\n", at, name)
		})
	}
	for address, l := range n.Listeners {
		go accept(l, func(*net.TCPConn) string { return "listener " + address + "\n" })
	}
	if err := n.Run(o.Args, os.Environ()); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		return 97
	}
	_ = n.Command().Wait()
	cancel()
	<-served
	for _, u := range n.Ports() {
		fmt.Fprintf(os.Stderr, "port %d: %d connections, %d refused\n", u.Port, u.Connections, u.Refused)
	}
	if r, err := n.Refused(); err != nil || r != (RefusedPackets{}) {
		fmt.Fprintf(os.Stderr, "refused: %+v, %v\n", r, err)
	}
	if ports, err := n.Closed(); err != nil || len(ports) > 0 {
		fmt.Fprintf(os.Stderr, "closed: %v, %v\n", ports, err)
	}
	return n.Command().ProcessState.ExitCode()
}

func accept(l net.Listener, hello func(*net.TCPConn) string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.WriteString(c, hello(c.(*net.TCPConn)))
			_, _ = io.Copy(c, c)
		}()
	}
}

// originalDestination returns where a redirected connection was to go.
func originalDestination(c *net.TCPConn) (at netip.AddrPort) {
	raw, _ := c.SyscallConn()
	_ = raw.Control(func(fd uintptr) {
		level, option := uintptr(unix.SOL_IP), uintptr(unix.SO_ORIGINAL_DST)
		if c.LocalAddr().(*net.TCPAddr).IP.To4() == nil {
			level = unix.SOL_IPV6
		}
		var b [28]byte
		size := uint32(len(b))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, level, option, uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&size)), 0)
		port := uint16(b[2])<<8 | uint16(b[3])
		switch {
		case errno != 0:
		case level == unix.SOL_IP:
			at = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
		default:
			at = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), port)
		}
	})
	return at
}

// user is who runs a command.
type user struct {
	name     string
	uid, gid uint32
}

// users are root and a user without rights.
var users = []user{{"root", 0, 0}, {"unprivileged", 65534, 65534}}

// outcome is what a command left.
type outcome struct {
	out, err string
	code     int
}

// isolated runs a command in a namespace, as a user, with the program of TestMain.
func isolated(t *testing.T, u user, r run, prepare ...func(*exec.Cmd)) outcome {
	t.Helper()
	if os.Getuid() != 0 {
		testkit.Lacks(t, "root, to be another user")
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program(t))
	cmd.Env = append(os.Environ(), "ISOLATE_TEST_RUN="+string(text))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.uid, Gid: u.gid}}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	for _, f := range prepare {
		f(cmd)
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// program returns this test binary, where every user may execute it.
func program(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "isolate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // for the other user
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// By another process: one that is forked here meanwhile would hold a descriptor of
	// the copy, and a program that is open for writing cannot be executed.
	to := filepath.Join(dir, "isolate.test")
	if out, err := exec.CommandContext(t.Context(), "install", "-m", "755", self, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return to
}

// shell runs a script isolated.
func shell(t *testing.T, u user, o Options, script string, prepare ...func(*exec.Cmd)) outcome {
	t.Helper()
	return isolated(t, u, run{o, []string{"sh", "-c", script}}, prepare...)
}
