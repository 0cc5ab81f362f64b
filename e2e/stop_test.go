package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// A bot that cancels its orders while it stops still gets through.
func TestNewConnectionsAreServedForTheGrace(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	p := launch(t, "", loopback+"stop: {grace_seconds: 1.5}\ndrain_seconds: 15\n")
	live := p.tunnel(t, echo.Addr)
	from := time.Now()
	p.signal(t, syscall.SIGTERM, stopping)
	c := p.tunnel(t, echo.Addr) // fails the test if it is refused
	_ = c.Close()
	testkit.Eventually(t, testkit.Patience, "the end of the grace", func() bool {
		c, err := net.Dial("tcp", p.Addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	if took := time.Since(from); took < 1400*time.Millisecond || took > 8*time.Second {
		t.Errorf("the grace took %v, want 1.5 s", took)
	}
	works(live)
	testkit.Eventually(t, 15*time.Second, "a line that says how far it is", func() bool {
		return strings.Contains(p.Log.String(), `"msg":"draining","tunnels":1,"oldest":"`)
	})
	if code := p.ended(t, testkit.Patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestASecondSignalEndsTheGrace(t *testing.T) {
	t.Parallel()
	p := launch(t, "", "stop: {grace_seconds: 60}\ndrain_seconds: 60\n")
	p.signal(t, syscall.SIGTERM, stopping)
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.ended(t, 8*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// notified is what a daemon tells systemd, on a socket as systemd gives one.
type notified struct {
	path string
	mu   sync.Mutex
	told []string
}

func listenAsSystemd(t *testing.T) *notified {
	t.Helper()
	n := &notified{path: filepath.Join(t.TempDir(), "notify")}
	ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends when the socket is closed
		b := make([]byte, 4096)
		for {
			size, err := ln.Read(b)
			if err != nil {
				return
			}
			n.mu.Lock()
			n.told = append(n.told, string(b[:size]))
			n.mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = ln.Close() })
	return n
}

func (n *notified) heard(t *testing.T, what string, times int) {
	t.Helper()
	testkit.Eventually(t, testkit.Patience, what, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return strings.Count(strings.Join(n.told, "\n"), what) >= times
	})
}

func TestSystemdIsTold(t *testing.T) {
	t.Parallel()
	n := listenAsSystemd(t)
	p := launch(t, "", "", "NOTIFY_SOCKET="+n.path, "WATCHDOG_USEC=200000")
	n.heard(t, "READY=1", 1)
	n.heard(t, "WATCHDOG=1", 3)
	p.signal(t, syscall.SIGHUP, reloaded)
	n.heard(t, "RELOADING=1\nMONOTONIC_USEC=", 1)
	n.heard(t, "READY=1", 2)
	p.signal(t, syscall.SIGTERM, stopping)
	n.heard(t, "STOPPING=1", 1)
}
