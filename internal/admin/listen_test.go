package admin

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
)

func TestListenOnASocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	first, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", st.Mode(), err)
		}
	}
	if _, err := Listen("unix:" + path); err == nil || !strings.Contains(err.Error(), "another process answers there") {
		t.Errorf("one in use: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as after a crash
	_ = first.Close()
	second, err := Listen("unix:" + path)
	if err != nil {
		t.Fatalf("one left over: %v", err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
	_ = second.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after it was closed: %v", err)
	}
	file := filepath.Join(dir, "file")
	write(t, file, "precious")
	if _, err := Listen("unix:" + file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file: %v %q", err, b)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err == nil {
		if _, err := Listen("unix:" + link); err == nil {
			t.Error("a link to a file was replaced")
		}
	}
	if _, err := Listen("unix:" + filepath.Join(dir, "none", "a.sock")); err == nil {
		t.Error("in a directory that is not there")
	}
}

func TestListenErrorsNameTheRemedy(t *testing.T) {
	taken, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, says := range map[string]string{
		taken.Addr().String(): "perhaps by another proxyd; set admin",
		"192.0.2.1:8878":      "does not have that address",
	} {
		if _, err := Listen(address); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A server serves a new listener while the old one goes, as when the address
// changes by a reload; Retire ends each connection after its answer; and Shutdown
// waits for the answer under way.
func TestServeTwoListenersAndShutDown(t *testing.T) {
	begun, go1 := make(chan struct{}), make(chan struct{})
	o := wellOptions(t)
	o.Reload = func(context.Context, bool) Report {
		close(begun)
		<-go1
		return Report{Applied: true}
	}
	s, done := New(o), make(chan error, 2)
	var at [2]net.Listener
	for i := range at {
		ln, err := Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at[i] = ln
		go func() { done <- s.Serve(ln) }() // ends when ln is closed
	}
	for _, ln := range at {
		if got := get(t, ln.Addr().String(), "/healthz"); got.status != 200 || got.closed {
			t.Errorf("%d, closed: %v", got.status, got.closed)
		}
	}
	s.Retire()
	if got := get(t, at[1].Addr().String(), "/healthz"); got.status != 200 || !got.closed {
		t.Errorf("after Retire: %d, closed: %v", got.status, got.closed)
	}
	_ = at[0].Close()
	if err := <-done; err != nil {
		t.Errorf("the first: %v", err)
	}
	answered := make(chan error, 1)
	go func() { // ends with the reload
		r, err := NewClient(at[1].Addr().String(), config.Secret{}).Reload(t.Context(), false)
		if !r.Applied && err == nil {
			err = context.Canceled
		}
		answered <- err
	}()
	<-begun
	time.AfterFunc(50*time.Millisecond, func() { close(go1) })
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case <-go1:
	default:
		t.Error("Shutdown did not wait for the answer")
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the second: %v", err)
	}
}
