//go:build unix

package handover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// isKeptAlive says what is wrong with a conn's keepalive.
func isKeptAlive(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	e := raw.Control(func(fd uintptr) {
		for option, want := range keepAliveOptions {
			got, failed := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option)
			if failed == nil && got != want {
				failed = fmt.Errorf("keepalive option %d is %d, want %d", option, got, want)
			}
			err = errors.Join(err, failed)
		}
	})
	return errors.Join(e, err)
}

// handed makes what another process would have handed over of a listener.
func handed(t testing.TB, l *Listeners, name string, ln net.Listener) {
	t.Helper()
	file, err := ln.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.add(file, name, ourKeepAlive); err != nil {
		t.Fatal(err)
	}
}

func TestListenersFoundByNameAndAddress(t *testing.T) {
	t.Parallel()
	var l Listeners
	path := filepath.Join(t.TempDir(), "admin.sock")
	at := map[string]string{}
	for name, where := range map[string]string{"a": "127.0.0.1:0", "b": "127.0.0.1:0", "all": "0.0.0.0:0", "x": path} {
		network := "tcp"
		if name == "x" {
			network = "unix"
		}
		ln, err := net.Listen(network, where)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		handed(t, &l, name, ln)
		at[name] = ln.Addr().String()
	}
	_, port, _ := net.SplitHostPort(at["all"])
	for _, c := range []struct {
		name, wanted, found string
	}{
		{"its name", "a", "a"},
		{"a name that was taken", "a", ""},
		{"its address", at["b"], "b"},
		{"an address that was taken", at["b"], ""},
		{"another address", "127.0.0.2" + strings.TrimPrefix(at["all"], "[::]"), ""},
		{"any free port", "127.0.0.1:0", ""},
		{"all addresses", ":" + port, "all"},
		{"another path", "unix:" + path + "x", ""},
		{"a path", "unix:" + path, "x"},
		{"nothing", "", ""},
	} {
		ln := l.Take(c.wanted)
		got := ""
		if ln != nil {
			defer ln.Close()
			got = ln.Addr().String()
		}
		if got != at[c.found] {
			t.Errorf("%s: %q gives %q, want %q", c.name, c.wanted, got, at[c.found])
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handed(t, &l, "unwanted", ln)
	_ = ln.Close()
	if left := l.Close(); len(left) != 1 || left[0].Name != "unwanted" {
		t.Errorf("left: %v", left)
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("what was not taken still listens")
	}
	if (*Listeners)(nil).Take("a") != nil || (*Listeners)(nil).Close() != nil {
		t.Error("no listeners give one")
	}
}

// A dead client must be found as fast behind a listener that was handed over.
func TestInheritedListenersSetKeepalive(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var l Listeners
	handed(t, &l, "main", ln)
	taken := l.Take("main")
	defer taken.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near, err := taken.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	if err := isKeptAlive(near.(*net.TCPConn)); err != nil {
		t.Error(err)
	}
}

// A unix socket's file is the next process's: the old one must not remove it.
func TestUnixSocketFileStaysAfterHandover(t *testing.T) {
	t.Parallel()
	for play, serves := range map[string]bool{"answers": true, "dies at go": false} {
		path := filepath.Join(t.TempDir(), "admin.sock")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		go answer(ln) // ends when ln is closed
		c := upgrade(t, new(Upgrader), play, StartOptions{Listeners: []Listener{{"main", ln}}})
		if err := c.Ready(soon(t)); err != nil {
			t.Fatal(err)
		}
		if err := c.Go(nil); (err == nil) != serves {
			t.Fatal(err)
		}
		if serves {
			_ = ln.Close()
			if got := who(t, ln.Addr()); got != strconv.Itoa(c.PID) {
				t.Errorf("answered by %s, want %d", got, c.PID)
			}
			continue
		}
		if got := who(t, ln.Addr()); got != strconv.Itoa(os.Getpid()) {
			t.Errorf("answered by %s", got)
		}
		_ = ln.Close()
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file of the one that stays is left behind: %v", err)
		}
	}
}

var _ = add("serves and ends", func() error {
	p, err := ready()
	if err != nil {
		return err
	}
	ln := p.Listeners.Take("main")
	if err := p.Serving(); err != nil {
		return err
	}
	return ln.Close()
})

// From when the next process serves, the file is its own to remove.
func TestUnixSocketFileRemovedByLastProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := upgrade(t, new(Upgrader), "serves and ends", StartOptions{Listeners: []Listener{{"main", ln}}})
	if err := errors.Join(c.Ready(soon(t)), c.Go(nil)); err != nil {
		t.Fatal(err)
	}
	<-c.exited
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is left behind: %v", err)
	}
}

var _ = add("is activated", func() error {
	_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // as systemd does between fork and exec
	l, err := Activated(ourKeepAlive)
	if err != nil {
		return err
	}
	fmt.Println(l.Take("admin").Addr(), l.Take(os.Getenv("HANDOVER_TEST_ADDR")).Addr(), os.Getenv("LISTEN_FDS") == "")
	if again, err := Activated(ourKeepAlive); again != nil || err != nil {
		return fmt.Errorf("a second time: %v, %w", again, err)
	}
	return nil
})

// systemd's sockets are found by name and by address, in any order.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	var files []*os.File
	var addrs []string
	for range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		file, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		files, addrs = append(files, file), append(addrs, ln.Addr().String())
	}
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	for _, c := range []struct {
		name  string
		files []*os.File
		want  string
	}{
		{"two sockets", files, addrs[1] + " " + addrs[0] + " true\n"},
		{"no socket", []*os.File{files[0], pipe}, "admin that was handed over is not one to listen on"},
	} {
		cmd := exec.CommandContext(soon(t), os.Args[0])
		cmd.Env = append(os.Environ(), part+"=is activated", "LISTEN_FDS=2", "LISTEN_FDNAMES=proxyd.socket:admin", "HANDOVER_TEST_ADDR="+addrs[0])
		cmd.ExtraFiles = c.files
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%s: got %q, want %q", c.name, out, c.want)
		}
	}
	if l, err := Activated(ourKeepAlive); l != nil || err != nil {
		t.Errorf("without systemd: %v, %v", l, err)
	}
	if p, err := Inherited(ourKeepAlive); p != nil || err != nil {
		t.Errorf("without a parent: %v, %v", p, err)
	}
}
