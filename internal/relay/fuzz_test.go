package relay_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"proxyd/internal/relay"
)

// actor is one far end under FuzzRelay: it always reads, and does what the
// script says.
type actor struct {
	conn
	sent, got   bytes.Buffer
	ended       bool  // it has half-closed
	gone        bool  // it has reset
	saw         error // how its reading ended
	reads       chan struct{}
	writesReset bool // a write has got the error of a reset, so that the read cannot
}

func act(c conn) *actor {
	a := &actor{conn: c, reads: make(chan struct{})}
	go func() { // ends with the flow, or with the conn
		_, a.saw = io.Copy(&a.got, c)
		close(a.reads)
	}()
	return a
}

func (a *actor) send(n int, seed byte) {
	if a.ended || a.gone || a.writesReset {
		return
	}
	p := make([]byte, n)
	_, _ = io.ReadFull(bytesOf(uint64(seed)), p)
	a.sent.Write(p)
	if _, err := a.Write(p); err != nil {
		a.writesReset = true
	}
}

func (a *actor) end() {
	if !a.ended && !a.gone {
		a.ended = true
		err := a.CloseWrite()
		if _, writes := a.conn.(*tls.Conn); writes && err != nil {
			a.writesReset = true
		}
	}
}

// FuzzRelay runs a script against both ends. Each byte of it is the side (1
// bit), what to do (2 bits) and how much (5 bits); the first chooses the conns.
func FuzzRelay(f *testing.F) {
	const client, server = 0, 1
	const sends, pauses, ends, resets = 0 << 1, 1 << 1, 2 << 1, 3 << 1
	amount := func(n byte) byte { return n << 3 }
	for k := range byte(4) {
		f.Add([]byte{k})
		f.Add([]byte{k, client | sends | amount(8), server | sends | amount(17), client | ends, server | sends | amount(17), server | ends})
		f.Add([]byte{k, server | sends | amount(17), server | ends, client | sends | amount(17), client | sends | amount(3)})
		f.Add([]byte{k, client | sends | amount(12), pauses | amount(9), client | resets, server | sends | amount(17), server | ends})
		f.Add([]byte{k, server | sends | amount(16), server | resets, client | resets})
		f.Add([]byte{k, client | ends, pauses | amount(3), client | resets, server | sends | amount(16), server | sends | amount(16)})
		f.Add([]byte{k, client | ends, server | resets})
	}
	engine := relay.NewEngine()
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 || len(script) > 60 {
			return
		}
		w := join(t, engine, allKinds[script[0]%4], nil, nil, relay.Options{})
		side := [2]*actor{act(w.client), act(w.server)}
		firstReset := -1
		for i, op := range script[1:] {
			a, n := side[op&1], op>>3
			switch op & 6 {
			case sends:
				a.send(1<<(n%18)+int(n), byte(i))
			case pauses:
				time.Sleep(time.Duration(n) * 20 * time.Microsecond)
			case ends:
				a.end()
			case resets:
				if a.gone = true; firstReset < 0 {
					firstReset = int(op & 1)
				}
				reset(a.conn)
			}
		}
		side[client].end()
		side[server].end()
		s := w.end(t)
		<-side[client].reads
		<-side[server].reads
		judge(t, s, side[client], side[server])
		if firstReset >= 0 {
			judgeReset(t, s, firstReset, side[firstReset], side[1-firstReset])
		}
	})
}

// judge: what arrives is what was sent, in order; all of it if neither side resets.
func judge(t *testing.T, s relay.Stats, client, server *actor) {
	t.Helper()
	for _, d := range []struct {
		from, to *actor
		counted  int64
	}{{client, server, s.Up}, {server, client, s.Down}} {
		sent, got := d.from.sent.Bytes(), d.to.got.Bytes()
		if !bytes.HasPrefix(sent, got) {
			t.Fatalf("%d bytes arrive that are not those sent", len(got))
		}
		if int64(len(got)) > d.counted || d.counted > int64(len(sent)) {
			t.Errorf("%d sent, %d counted, %d arrived", len(sent), d.counted, len(got))
		}
		if client.gone || server.gone {
			continue
		}
		if len(got) != len(sent) || d.to.saw != nil {
			t.Errorf("%d bytes of %d arrive, then %v", len(got), len(sent), d.to.saw)
		}
		if s.Reason != relay.ReasonEOF || s.Err != nil {
			t.Errorf("got %+v", s)
		}
	}
}

// judgeReset: a side that resets without a word is passed on as such.
func judgeReset(t *testing.T, s relay.Stats, first int, by, other *actor) {
	t.Helper()
	if by.ended || other.gone { // it had said before that it ends; or both reset, and chance says who is first
		return
	}
	want := []relay.Side{relay.Client, relay.Server}[first]
	if s.Reason != relay.ReasonReset || s.ClosedBy != want {
		t.Errorf("got %+v, want a reset by the %s", s, want)
	}
	if !isReset(other.saw) && !other.writesReset {
		t.Errorf("the other side sees %v, want a reset", errors.Join(other.saw, io.EOF))
	}
}
