//go:build unix

package admin

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
)

// Promise (data path): the admin address answers when the process has no file
// descriptor left.
func TestAdminAnswersWithoutAFreeDescriptor(t *testing.T) {
	s := New(Options{
		Settings: func() config.Admin { return config.Admin{} },
		Snapshot: func() *router.Router { return nil },
		Status:   func() Status { return Status{State: StateReady} },
		Metrics:  http.NotFoundHandler(),
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.spares.open() // else Serve takes them when there are none
	defer s.spares.close()
	var clients []net.Conn
	for range 2 * spareFiles { // more than are spared: idle ones are closed
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(testkit.Patience))
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	release := testkit.ExhaustFiles(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }() // ends with Close
	defer func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	answered := 0
	for _, c := range clients {
		answer, _ := io.ReadAll(c) // an error from one that was closed
		if strings.HasPrefix(string(answer), "HTTP/1.1 200 OK") {
			answered++
		}
	}
	if answered < spareFiles {
		t.Errorf("%d of %d were answered", answered, len(clients))
	}
	release()
	testkit.Eventually(t, testkit.Patience, "the spare descriptors to be got back", func() bool {
		s.spares.fill()
		s.spares.mu.Lock()
		defer s.spares.mu.Unlock()
		return len(s.spares.held) == spareFiles
	})
}
