//go:build unix

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// systemd follows the new process.
func TestSystemdIsToldOfTheNewProcess(t *testing.T) {
	t.Parallel()
	n := listenAsSystemd(t)
	s := startService(t, "", "NOTIFY_SOCKET="+n.path, "WATCHDOG_USEC=400000")
	n.heard(t, "READY=1", 1)
	s.upgrade(t, 0)
	testkit.Eventually(t, testkit.Patience, "the old process is gone", func() bool { return len(s.pids(t)) == 1 })
	n.heard(t, fmt.Sprintf("MAINPID=%d\nREADY=1", s.pids(t)[0]), 1)
	n.mu.Lock()
	n.told = nil
	n.mu.Unlock()
	n.heard(t, "WATCHDOG=1", 2)
}

// Sockets that systemd has opened are used, and whoever connected before the
// daemon was there is served.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	var files []*os.File
	var addrs []string
	for range 3 {
		ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		file, err := ln.File()
		if err != nil {
			t.Fatal(err)
		}
		_ = ln.Close()
		files, addrs = append(files, file), append(addrs, ln.Addr().String())
	}
	early := testkit.Dial(t, addrs[0])
	early.Send("CONNECT " + echo.Addr + " HTTP/1.1\r\nHost: " + echo.Addr + "\r\n\r\n")
	log := newLog(t)
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" run -c "$1"`, binary(t),
		writeConfig(t, loopback+"listen: "+addrs[0]+"\nadmin: 127.0.0.1:1\n"))
	cmd.Env = []string{"LISTEN_FDS=3", "LISTEN_FDNAMES=proxyd:admin:other"}
	cmd.ExtraFiles, cmd.Stderr = files, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for _, f := range files {
		_ = f.Close()
	}
	if r := early.ReadHTTP("CONNECT"); r.Status != 200 {
		t.Errorf("the early client: %v\n%s", r, log)
	}
	c, reply := testkit.Open(t, addrs[0], testkit.Ask{Protocol: testkit.SOCKS5, Target: echo.Addr})
	if !reply.OK {
		t.Fatal(reply)
	}
	works(c)
	admin := testkit.Dial(t, addrs[1])
	admin.Send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if r := admin.ReadHTTP("GET"); r.Status != 200 {
		t.Errorf("the admin socket, found by its name: %v", r)
	}
	if !strings.Contains(log.String(), `not used","name":"other","address":"`+addrs[2]) {
		t.Errorf("no line names the socket that is not used:\n%s", log)
	}
}
