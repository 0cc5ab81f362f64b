package tunnel_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
)

// copies makes what another process would have: descriptors of its own of the
// same sockets.
func copies(t testing.TB, p tunnel.Parcel) tunnel.Parcel {
	t.Helper()
	q := tunnel.Parcel{Data: bytes.Clone(p.Data)}
	for _, c := range p.Conns {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var fd int
		if e := raw.Control(func(of uintptr) { fd, err = syscall.Dup(int(of)) }); e != nil || err != nil {
			t.Fatal(e, err)
		}
		file := os.NewFile(uintptr(fd), "")
		dup, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		q.Conns = append(q.Conns, dup.(*net.TCPConn))
	}
	return q
}

// moveTo moves every tunnel of h that can be.
func (h *host) moveTo(other *host, batch int) tunnel.Moves {
	h.t.Helper()
	m, err := h.Move(h.t.Context(), batch, func(parcels []tunnel.Parcel) (int, error) {
		for _, p := range parcels {
			a, err := tunnel.Unpack(copies(h.t, p))
			if err != nil {
				h.t.Fatal(err)
			}
			other.Adopt(a, other.set.Direct().Members()[0].Upstream, nil)
		}
		return len(parcels), nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

func TestMovedTunnelGoesOn(t *testing.T) {
	t.Parallel()
	old, next := newHost(t, toLoopback+"tunnel: {idle_seconds: 3600}\n"), newHost(t, toLoopback)
	plain, half, full := old.open(""), old.open("early "), old.open("")
	say(t, plain.client, plain.server, "before")
	hear(t, half.server, "early ")
	_ = half.client.CloseWrite()
	if _, err := half.server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("half-close: %v", err)
	}
	say(t, half.server, half.client, "still answers")
	sent := fill(t, full.client)

	if m := old.moveTo(next, 2); m.Moved != 3 || m.Stayed != 0 || m.Longest <= 0 {
		t.Errorf("moved %+v, want 3", m)
	}
	if old.Active() != 0 || next.Active() != 3 || old.set.Direct().Members()[0].Live() != 0 {
		t.Errorf("%d tunnels here, %d there, %d counted here", old.Active(), next.Active(), old.set.Direct().Members()[0].Live())
	}
	say(t, plain.client, plain.server, "after")
	say(t, plain.server, plain.client, "and back")
	say(t, half.server, half.client, "answers on")
	got := make([]byte, len(sent))
	_ = full.server.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := io.ReadFull(full.server, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("what was in flight has changed (%v)", err)
	}
	for _, e := range []ends{plain, half, full} {
		_, _ = e.client.CloseWrite(), e.server.CloseWrite()
	}
	next.wait()

	if n := len(old.recorded(tunnel.Ended)); n != 0 {
		t.Errorf("%d ended where they left", n)
	}
	begun, ended := map[string]tunnel.Record{}, next.recorded(tunnel.Ended)
	for _, r := range old.recorded(tunnel.Moved) {
		begun[r.ID] = r
	}
	if len(begun) != 3 || len(ended) != 3 || len(next.recorded(tunnel.Opened)) != 0 {
		t.Fatalf("%d records of moves, %d of ends; want 3 each", len(begun), len(ended))
	}
	for _, r := range ended {
		was := begun[r.ID]
		if diff := cmp.Diff(was.Opening, r.Opening, cmpopts.EquateComparable(was.Client), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the record has changed: %s", diff)
		}
		if r.Reason != "eof" || r.Up < was.Up || r.Down < was.Down || r.Duration < was.Duration || was.Reason != tunnel.ReasonMoved {
			t.Errorf("left as %+v, ended as %+v", was, r)
		}
		switch r.ID {
		case plain.tunnel.ID():
			if r.Up != 11 || r.Down != 8 {
				t.Errorf("plain: %d up, %d down; want 11 and 8", r.Up, r.Down)
			}
		case half.tunnel.ID():
			if r.Up != 6 || r.Down != 23 || r.ClosedBy != "client" {
				t.Errorf("half: %d up, %d down, by %s; want 6, 23, client", r.Up, r.Down, r.ClosedBy)
			}
		}
	}
}

// fill sends until nothing more fits into any buffer in between.
func fill(t testing.TB, c *net.TCPConn) (sent []byte) {
	t.Helper()
	chunk := make([]byte, 64<<10)
	for {
		for i := range chunk {
			chunk[i] = byte((len(sent) + i) * 131 >> 3)
		}
		_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Write(chunk)
		sent = append(sent, chunk[:n]...)
		if err != nil {
			_ = c.SetWriteDeadline(time.Time{})
			return sent
		}
	}
}

// What the other process does not take goes on here, and only that.
func TestFailedMoveLeavesEachTunnelWithOneOwner(t *testing.T) {
	t.Parallel()
	broken := errors.New("the other process is gone")
	for name, takes := range map[string]int{"nothing taken": 0, "the first taken": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, next := newHost(t, toLoopback), newHost(t, toLoopback)
			all := []ends{old.open(""), old.open(""), old.open("")}
			m, err := old.Move(t.Context(), 2, func(p []tunnel.Parcel) (int, error) {
				for _, p := range p[:takes] {
					a, err := tunnel.Unpack(copies(t, p))
					if err != nil {
						t.Fatal(err)
					}
					next.Adopt(a, nil, nil)
				}
				return takes, broken
			})
			if !errors.Is(err, broken) || m.Moved != takes || m.Stayed != 3-takes || next.Active() != takes {
				t.Errorf("got %+v, %v, %d there", m, err, next.Active())
			}
			for _, e := range all {
				say(t, e.client, e.server, "ping")
				say(t, e.server, e.client, "pong")
				_, _ = e.client.CloseWrite(), e.server.CloseWrite()
			}
			old.wait()
			next.wait()
			if here, there := len(old.recorded(tunnel.Ended)), len(next.recorded(tunnel.Ended)); here != 3-takes || there != takes {
				t.Errorf("%d ended here and %d there", here, there)
			}
		})
	}
}

func TestTunnelThatCannotMoveStays(t *testing.T) {
	t.Parallel()
	old, next := newHost(t, toLoopback), newHost(t, toLoopback)
	moves := old.open("")
	opening, near := old.opened()
	inTLS, nearTLS := old.opened()
	ca := testkit.NewCA(t)
	inTLS.tunnel.Carry(tls.Server(nearTLS, ca.Server(t, "127.0.0.1")), nil)
	client := tls.Client(inTLS.client, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"})

	if m := old.moveTo(next, 100); m.Moved != 1 || m.Stayed != 2 {
		t.Errorf("got %+v, want 1 moved and 2 that stay", m)
	}
	opening.tunnel.Carry(near, nil)
	for _, e := range []ends{moves, opening} {
		say(t, e.client, e.server, "ping")
	}
	say(t, client, inTLS.server, "ping")
	if m := old.moveTo(next, 100); m.Moved != 1 || m.Stayed != 1 {
		t.Errorf("the second time: %+v, want 1 and 1", m)
	}
	say(t, opening.client, opening.server, "pong")
	_ = client.Close()
}

// CloseAll while tunnels stand still closes those that come back.
func TestCloseAllDuringAMove(t *testing.T) {
	t.Parallel()
	h := newHost(t, toLoopback)
	e := h.open("")
	_, err := h.Move(t.Context(), 10, func([]tunnel.Parcel) (int, error) {
		h.CloseAll()
		return 0, context.Canceled
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	h.wait()
	if _, err := e.client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the client reads %v, want EOF", err)
	}
}

func TestUnpackRejectsMalformedParcel(t *testing.T) {
	t.Parallel()
	h := newHost(t, toLoopback)
	h.open("")
	var whole tunnel.Parcel
	_, _ = h.Move(t.Context(), 1, func(p []tunnel.Parcel) (int, error) {
		whole = p[0]
		return 0, io.EOF
	})
	for name, p := range map[string]tunnel.Parcel{
		"one socket":     {Data: whole.Data, Conns: whole.Conns[:1]},
		"nothing":        {Conns: whole.Conns},
		"cut":            {Data: whole.Data[:len(whole.Data)-1], Conns: whole.Conns},
		"bytes too many": {Data: append(bytes.Clone(whole.Data), 0), Conns: whole.Conns},
		"length too big": {Data: []byte{255, 255, 255, 255, '{', '}'}, Conns: whole.Conns},
		"not JSON":       {Data: []byte{0, 0, 0, 1, '{'}, Conns: whole.Conns},
		"less than none": {Data: []byte("\x00\x00\x00\x26" + `{"Up":{"Rest":-1},"Down":{"Rest":1}}  `), Conns: whole.Conns},
	} {
		if _, err := tunnel.Unpack(p); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
