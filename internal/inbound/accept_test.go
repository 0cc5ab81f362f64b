package inbound

import (
	"net"
	"strings"
	"testing"
	"time"
)

func TestAcceptGoesOnAfterFailures(t *testing.T) {
	f := newFront(t, local)
	reported := make(chan error, 100)
	f.server.opts.AcceptFailed = func(err error) { reported <- err }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	failing := &failingListener{Listener: ln, left: 6}
	served := make(chan error)
	start := time.Now()
	go func() { served <- f.server.Serve(failing, f.settings) }()
	if got := f.say("GET / HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("got %q", got)
	}
	if took := time.Since(start); took < 250*time.Millisecond { // 5+10+20+40+80+100
		t.Errorf("6 failures took %v: no back-off", took)
	}
	ln.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	f.server.Close()
	if len(reported) != 1 || !strings.Contains((<-reported).Error(), "too many open files") {
		t.Errorf("reported %d times", len(reported)+1)
	}
}
