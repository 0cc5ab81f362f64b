package tunnel

import (
	"math/rand/v2"
	"testing"
)

// crowd is a Handler with n tunnels that do not carry.
func crowd(n int) (*Handler, []*Tunnel) {
	h := NewHandler(Options{})
	list := make([]*Tunnel, n)
	for i := range list {
		list[i] = &Tunnel{h: h}
		h.tunnels.add(list[i])
	}
	return h, list
}

// TestEachWhileTunnelsComeAndGo: what is open from the beginning of a walk to its
// end is seen once, and nothing twice, however many come and go meanwhile.
func TestEachWhileTunnelsComeAndGo(t *testing.T) {
	t.Parallel()
	for range 50 {
		h, old := crowd(3 * walkStep)
		stays := map[*Tunnel]bool{}
		for _, tunnel := range old {
			stays[tunnel] = true
		}
		seen := map[*Tunnel]int{}
		h.Each(func(l Live) bool {
			seen[l.tunnel]++
			for range 3 {
				h.tunnels.add(&Tunnel{h: h})
				if gone := old[rand.IntN(len(old))]; stays[gone] {
					stays[gone] = false
					h.remove(gone)
				}
			}
			return true
		})
		for tunnel, n := range seen {
			if n > 1 || tunnel.number > uint64(len(old)) {
				t.Fatalf("tunnel %d was seen %d times", tunnel.number, n)
			}
		}
		for tunnel, open := range stays {
			if open && seen[tunnel] != 1 {
				t.Fatalf("tunnel %d was open all the time and not seen", tunnel.number)
			}
		}
		if n := h.Active(); n != len(old)+3*len(seen)-gone(stays) {
			t.Fatalf("%d are open", n)
		}
	}
}

func gone(stays map[*Tunnel]bool) (n int) {
	for _, open := range stays {
		if !open {
			n++
		}
	}
	return n
}

// TestRegistryShrinks: what a burst has taken is given back.
func TestRegistryShrinks(t *testing.T) {
	t.Parallel()
	h, list := crowd(10_000)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, tunnel := range list[10:] {
		h.remove(tunnel)
	}
	n := 0
	h.Each(func(Live) bool { n++; return true })
	if n != 10 || cap(h.tunnels.entries) > 2*fewEntries {
		t.Errorf("%d tunnels in a list of %d", n, cap(h.tunnels.entries))
	}
}

// TestEachAllocatesNothing, so that a walk a second costs no collection.
//
//nolint:paralleltest // it counts the allocations of the process
func TestEachAllocatesNothing(t *testing.T) {
	h, _ := crowd(1000)
	n := 0
	if got := testing.AllocsPerRun(10, func() {
		h.Each(func(l Live) bool {
			if slot := l.Slot(); *slot == nil {
				*slot = h
			}
			n++
			return true
		})
	}); got > 0 {
		t.Errorf("%g allocations a walk", got)
	}
}

// BenchmarkEach is a walk over 10,000 tunnels.
func BenchmarkEach(b *testing.B) {
	h, _ := crowd(10_000)
	for b.Loop() {
		var up int64
		h.Each(func(l Live) bool { up += l.Up; return true })
	}
}
