package relay_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyd/internal/relay"
	"proxyd/internal/testkit"
)

// deafen makes the kernel drop all that arrives for c, before anything is
// acknowledged: to the other end, the path is dead. It needs no privilege.
func deafen(t *testing.T, c net.Conn) {
	t.Helper()
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K} // keep 0 bytes
	if err := control(t, c, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	}); errors.Is(err, unix.EPERM) {
		testkit.Lacks(t, "the right to set a socket filter, which root has")
	} else if err != nil {
		t.Fatal(err)
	}
}

func control(t *testing.T, c net.Conn, f func(fd int) error) error {
	t.Helper()
	raw, err := bottom(c).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var callErr error
	return errors.Join(raw.Control(func(fd uintptr) { callErr = f(int(fd)) }), callErr)
}

// keepalive probes an idle conn after a second, and gives it up after another:
// the shortest that there is.
func keepalive(t *testing.T, c net.Conn) {
	t.Helper()
	if err := control(t, c, func(fd int) error {
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 1))
	}); err != nil {
		t.Fatal(err)
	}
}

// dying is what goes on in a flow, before and behind the moment when the path to
// one side dies: well is the far end of the other, near the flow's own of the dead.
type dying struct {
	name          string
	before, after func(t *testing.T, f *relay.Flow, well, near conn)
}

var dyings = []dying{
	{"data under way", nil, func(_ *testing.T, _ *relay.Flow, well, _ conn) { _, _ = well.Write([]byte("are you there?")) }},
	{"the writer stands", nil, func(_ *testing.T, _ *relay.Flow, well, _ conn) { go sends(well, func() {}) }}, // ends with the flow
	{"the reader stood", func(t *testing.T, f *relay.Flow, well, _ conn) {
		go sends(well, func() {}) // ends with the flow
		standing(t, f)            // the window is closed, and nothing in flight
	}, nil},
	{"an end under way", func(t *testing.T, f *relay.Flow, _, _ conn) { standing(t, f) }, func(_ *testing.T, _ *relay.Flow, well, _ conn) { _ = well.CloseWrite() }},
	{"idle, keepalive", func(t *testing.T, _ *relay.Flow, _, near conn) { keepalive(t, near) }, nil},
}

// TestDeadPeer: a side whose path is dead ends the flow, not before its time,
// and the other side sees that at once.
//
// Promise (data path): a side whose path is dead ends the tunnel, through any
// number of layers of TLS to the upstream, and the other side sees that at once.
func TestDeadPeer(t *testing.T) {
	t.Parallel()
	const deadAfter = 600 * time.Millisecond
	e := running(t, deadAfter)
	var names []string
	var checks []func(*testing.T)
	for _, k := range allKinds {
		for _, dead := range []relay.Side{relay.Client, relay.Server} {
			for _, d := range dyings {
				w, deaf, well, near := sides(t, e, k, dead)
				pass(t, well, deaf, 100_000)
				pass(t, deaf, well, 100_000)
				if d.before != nil {
					d.before(t, w.flow, well, near)
				}
				deafen(t, deaf)
				start := time.Now()
				if d.after != nil {
					d.after(t, w.flow, well, near)
				}
				names = append(names, fmt.Sprintf("%v, %s, %s", k, dead, d.name))
				checks = append(checks, func(t *testing.T) {
					if s := w.ended(t, dead, relay.ReasonDead); s.Up < 100_000 || s.Down < 100_000 {
						t.Errorf("got %+v", s)
					}
					_ = well.SetReadDeadline(time.Now().Add(patience))
					if _, err := well.Read(make([]byte, 1)); err == nil || errors.Is(err, errTimeout) {
						t.Errorf("the living side sees %v, want an end", err)
					}
					if took := time.Since(start); took < deadAfter-100*time.Millisecond {
						t.Errorf("called dead after %v", took)
					}
				})
			}
		}
	}
	for i, check := range checks { // all run already, so that they wait at once
		t.Run(names[i], check)
	}
}

// sides is a flow, and which of its conns is which when one side dies.
func sides(t *testing.T, e *relay.Engine, k kinds, dead relay.Side) (w *wire, deaf, well, near conn) {
	t.Helper()
	w = &wire{done: make(chan relay.Stats, 2)}
	var nearClient, nearServer conn
	w.client, nearClient = pair(t, k.client)
	nearServer, w.server = pair(t, k.server)
	w.flow = e.Start(nearClient, nearServer, nil, nil, relay.Options{Done: func(s relay.Stats) { w.done <- s }})
	t.Cleanup(w.flow.Close)
	if dead == relay.Client {
		return w, w.client, w.server, nearClient
	}
	return w, w.server, w.client, nearServer
}

// standing waits until no byte has moved for several looks of the watchdog.
func standing(t *testing.T, f *relay.Flow) {
	t.Helper()
	var last int64
	var since time.Time
	eventually(t, "nothing moves", func() bool {
		up, down := f.Bytes()
		if up+down != last {
			last, since = up+down, time.Now()
		}
		return time.Since(since) > 50*time.Millisecond
	})
}

// TestPathDeadForLessThanTheLimitLosesNothing: a path that was dead for less
// than the limit loses nothing.
func TestPathDeadForLessThanTheLimitLosesNothing(t *testing.T) {
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
