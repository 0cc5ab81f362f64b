package relay_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyd/internal/relay"
)

// deafen makes the kernel drop all that arrives for c, before anything is
// acknowledged: to the other end, the path is dead. It needs no privilege.
func deafen(t *testing.T, c net.Conn) {
	t.Helper()
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K} // keep 0 bytes
	if err := control(t, c, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	}); err != nil {
		t.Fatal(err)
	}
}

func control(t *testing.T, c net.Conn, f func(fd int) error) error {
	t.Helper()
	if s, ok := c.(*tls.Conn); ok {
		c = s.NetConn()
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var fault error
	return errors.Join(raw.Control(func(fd uintptr) { fault = f(int(fd)) }), fault)
}

// keepalive probes an idle conn every second, the shortest that there is.
func keepalive(t *testing.T, c net.Conn) {
	t.Helper()
	if err := control(t, c, func(fd int) error {
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3))
	}); err != nil {
		t.Fatal(err)
	}
}

// TestDeadPeer: a side whose path is dead ends the flow, not before its time,
// and the other side sees that at once.
func TestDeadPeer(t *testing.T) {
	t.Parallel()
	const deadAfter = 600 * time.Millisecond
	e := running(t, deadAfter)
	type attempt struct {
		name  string
		check func(*testing.T)
	}
	var attempts []attempt
	for _, k := range allKinds {
		for _, dead := range []relay.Side{relay.Client, relay.Server} {
			for _, what := range []string{"data under way", "the writer stands", "idle, keepalive"} {
				client, nearClient := pair(t, k.client)
				nearServer, server := pair(t, k.server)
				deaf, well, near := client, server, nearClient
				if dead == relay.Server {
					deaf, well, near = server, client, nearServer
				}
				f := e.Start(nearClient, nearServer, nil, nil, relay.Options{})
				t.Cleanup(f.Close)
				pass(t, well, deaf, 100_000)
				pass(t, deaf, well, 100_000)
				if what == "idle, keepalive" {
					keepalive(t, near)
				}
				deafen(t, deaf)
				start := time.Now()
				switch what {
				case "data under way":
					_, _ = well.Write([]byte("are you there?"))
				case "the writer stands":
					go sends(well, func() {}) // ends with the flow
				}
				attempts = append(attempts, attempt{fmt.Sprintf("%v, %s, %s", k, dead, what), func(t *testing.T) {
					s := f.Wait()
					if s.ClosedBy != dead || s.Reason != relay.ReasonDead || s.Up < 100_000 || s.Down < 100_000 {
						t.Errorf("got %+v", s)
					}
					_ = well.SetReadDeadline(time.Now().Add(patience))
					if _, err := well.Read(make([]byte, 1)); err == nil || errors.Is(err, errTimeout) {
						t.Errorf("the living side sees %v, want an end", err)
					}
					if took := time.Since(start); took < deadAfter-100*time.Millisecond {
						t.Errorf("called dead after %v", took)
					}
				}})
			}
		}
	}
	for _, a := range attempts { // all run already, so that they wait at once
		t.Run(a.name, a.check)
	}
}

// TestPathComesBack: a path that was dead for less than the limit loses nothing.
func TestPathComesBack(t *testing.T) {
	t.Parallel()
	w := join(t, running(t, 5*time.Second), allKinds[0], nil, nil, relay.Options{})
	pass(t, w.server, w.client, 1000)
	deafen(t, w.client)
	if _, err := w.server.Write([]byte("late, but whole")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(700 * time.Millisecond) // the path is dead meanwhile: data is sent twice or more
	if err := control(t, w.client, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 15)
	_ = w.client.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(w.client, got); err != nil || string(got) != "late, but whole" {
		t.Errorf("got %q, %v", got, err)
	}
	pass(t, w.client, w.server, 1000)
}
