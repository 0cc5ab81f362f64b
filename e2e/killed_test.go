//go:build unix

package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// What README.md says of a proxyd that dies.
//
// Promise (data path): when proxyd is killed, both sides of its tunnels see the end at once, its address refuses
// connections, and a new process serves them as soon as it is ready.
func TestKilledDaemon(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	p := launch(t, "", loopback)
	c := p.tunnel(t, echo.Addr)
	killed := time.Now()
	if err := p.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.ExpectEOF()
	testkit.Eventually(t, testkit.Patience, "the exchange has seen the end", func() bool { return echo.Open() == 0 })
	took := time.Since(killed)
	if t.Logf("both saw the end after %v", took); took > soon {
		t.Error("that is not at once")
	}
	<-p.Done
	if conn, err := net.Dial("tcp", p.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new client gets %v, %v", conn, err)
	}
	started := time.Now()
	again := launch(t, "", loopback+"listen: "+p.Addr+"\n")
	again.tunnel(t, echo.Addr)
	t.Logf("a tunnel was open %v after the start", time.Since(started))
}

// Promise (data path): when systemd holds the socket, a client that connects while proxyd is dead waits, and the next process serves it.
func TestKilledDaemonWhoseSocketSystemdHolds(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	held, err := ln.File() // open for as long as the test, as systemd's is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Close() })
	_ = ln.Close()
	file := writeConfig(t, loopback+"listen: "+addr+"\nadmin: \"\"\n")
	start := func() *exec.Cmd {
		log := newLog(t)
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" run -c "$1"`, binary(t), file)
		cmd.Env = []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=proxyd"}
		cmd.ExtraFiles, cmd.Stderr = []*os.File{held}, log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	open := func(c *testkit.Conn) {
		t.Helper()
		if r := c.ReadHTTP("CONNECT"); r.Status != 200 {
			t.Fatalf("the answer is %v", r)
		}
		works(c)
	}
	ask := "CONNECT " + echo.Addr + " HTTP/1.1\r\nHost: " + echo.Addr + "\r\n\r\n"
	first := start()
	c := testkit.Dial(t, addr)
	c.Send(ask)
	open(c)
	_ = first.Process.Kill()
	_ = first.Wait()
	c.ExpectEOF()
	waits := testkit.Dial(t, addr)
	waits.Send(ask)
	start()
	open(waits)
}
