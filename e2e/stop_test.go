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
	p := launch(t, "", loopback+"stop: {grace_seconds: 1.5}\ndrain_seconds: 7\n")
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
	if took := time.Since(from); took < 1400*time.Millisecond || took > 4*time.Second {
		t.Errorf("the grace took %v, want 1.5 s", took)
	}
	works(live)
	testkit.Eventually(t, 8*time.Second, "a line that says how far it is", func() bool {
		return strings.Contains(p.Log.String(), `"msg":"draining","tunnels":1,"oldest":"`)
	})
	if code := p.ended(t, 8*time.Second); code != 0 {
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
	if code := p.ended(t, 5*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// What systemd is told, on the socket that it gives.
func TestSystemdIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notify")
	ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var told []string
	go func() { // ends when the socket is closed
		b := make([]byte, 4096)
		for {
			n, err := ln.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			told = append(told, string(b[:n]))
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = ln.Close() })
	heard := func(what string, times int) {
		t.Helper()
		testkit.Eventually(t, testkit.Patience, what, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Count(strings.Join(told, "\n"), what) >= times
		})
	}
	p := launch(t, "", "", "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=200000")
	heard("READY=1", 1)
	heard("WATCHDOG=1", 3)
	p.signal(t, syscall.SIGHUP, reloaded)
	heard("RELOADING=1\nMONOTONIC_USEC=", 1)
	heard("READY=1", 2)
	p.signal(t, syscall.SIGTERM, stopping)
	heard("STOPPING=1", 1)
}
