package tunnel_test

import (
	"errors"
	"io"
	"testing"

	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
)

func TestEachListsOpenTunnels(t *testing.T) {
	t.Parallel()
	h := newHost(t, toLoopback)
	a := h.open("early ")
	hear(t, a.server, "early ")
	say(t, a.client, a.server, "up")
	say(t, a.server, a.client, "down")
	b, near := h.opened() // does not carry yet
	defer near.Close()

	seen := map[string]tunnel.Live{}
	testkit.Eventually(t, testkit.Patience, "what was heard is counted", func() bool { // which comes after the write
		h.Each(func(l tunnel.Live) bool {
			seen[l.ID] = l
			h.Active() // the Handler may be used meanwhile
			return true
		})
		return seen[a.tunnel.ID()].Up == 8 && seen[a.tunnel.ID()].Down == 4
	})
	if l := seen[a.tunnel.ID()]; l.Opening == nil || l.Up != 8 || l.Down != 4 || l.Label != "bot" || l.Member == nil || l.Member.Name() != "direct" {
		t.Errorf("the one that carries: %+v", l)
	}
	if l := seen[b.tunnel.ID()]; l.Opening == nil || l.Up+l.Down != 0 || l.Member == nil {
		t.Errorf("the one that does not carry yet: %+v", l)
	}
	if len(seen) != 2 {
		t.Errorf("got %d tunnels, want 2", len(seen))
	}
	n := 0
	h.Each(func(tunnel.Live) bool { n++; return false })
	if n != 1 {
		t.Errorf("it went on %d times after a false", n-1)
	}
	b.tunnel.Abandon(nil)
}

func TestCloseEndsOnlyThatTunnel(t *testing.T) {
	t.Parallel()
	h := newHost(t, toLoopback)
	gone, stays := h.open(""), h.open("")
	pending, near := h.opened()
	n := 0
	h.Each(func(l tunnel.Live) bool {
		if l.Member.Name() == "direct" && l.ID != stays.tunnel.ID() {
			l.Close()
			n++
		}
		return true
	})
	if n != 2 {
		t.Errorf("asked to close %d, want 2: one that carries, one that does not yet and stays", n)
	}
	if _, err := gone.client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the client of the closed one reads %v, want EOF", err)
	}
	say(t, stays.client, stays.server, "goes on")
	pending.tunnel.Carry(near, nil)
	say(t, pending.client, pending.server, "goes on")
	testkit.Eventually(t, testkit.Patience, "the record of its end", func() bool { return len(h.recorded(tunnel.Ended)) > 0 })
	if ended := h.recorded(tunnel.Ended); len(ended) != 1 || ended[0].ID != gone.tunnel.ID() || ended[0].Reason != "closed" || ended[0].ClosedBy != "proxyd" {
		t.Errorf("ended: %+v", ended)
	}
}
