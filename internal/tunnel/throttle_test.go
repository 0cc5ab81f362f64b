package tunnel

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	"proxyd/internal/failure"
)

func TestIdenticalRefusalsAreQuietedThenSlowed(t *testing.T) {
	var th throttle
	key := refusalKey{netip.MustParseAddr("127.0.0.1"), failure.UpstreamRefused, "api.binance.com", 443}
	now := time.Unix(1000, 0)
	loud, slow := 0, 0
	for range 50 {
		h := th.hit(key, false, now)
		if !h.quiet {
			loud++
		}
		if h.delay > 0 {
			slow++
		}
	}
	if loud != loggedPerSecond || slow != 50-fastPerSecond {
		t.Errorf("got %d logged and %d slowed, want %d and %d", loud, slow, loggedPerSecond, 50-fastPerSecond)
	}
	if h := th.hit(key, false, now.Add(time.Second)); h.quiet || h.delay != 0 || h.repeated != 50-loggedPerSecond {
		t.Errorf("a second later: %+v; want it logged at once, with %d repeated", h, 50-loggedPerSecond)
	}
}

func TestRefusalsWithRetryAfterAreNotSlowed(t *testing.T) {
	var th throttle
	for _, class := range []failure.Class{failure.Budget, failure.Draining, failure.Overload} {
		for range 100 {
			if h := th.hit(refusalKey{class: class}, false, time.Unix(1, 0)); h.delay != 0 {
				t.Fatalf("%s: delayed by %v", class, h.delay)
			}
		}
	}
}

// Refusals that differ must not flood the log either.
//
// Promise (security): however many different refusals clients cause, with a
// password or without, the log gets a bounded number of lines, and one client's
// refusals do not hide another's.
func TestDifferentRefusalsAreBoundedForEachClientAndForAll(t *testing.T) {
	const refusals, seconds = 14000, 3
	for name, c := range map[string]struct {
		client func(i int) netip.Addr
		early  bool
		most   rate
	}{
		"one client": {func(int) netip.Addr { return netip.MustParseAddr("10.0.0.1") }, false, clientLines},
		"one network": {func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
		}, false, clientLines},
		"many clients":          {func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }, false, totalLines},
		"before authentication": {func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }, true, earlyLines},
	} {
		t.Run(name, func(t *testing.T) {
			var th throttle
			now := time.Unix(1000, 0)
			lines, hidden := 0, 0
			for i := range refusals {
				now = now.Add(seconds * time.Second / refusals)
				h := th.hit(refusalKey{c.client(i), failure.Denied, strconv.Itoa(i) + ".example", 443}, c.early, now)
				if !h.quiet {
					lines++
					hidden += h.hidden
				}
			}
			if most := int(c.most.burst + seconds*c.most.perSecond); lines > most || lines < most-1 {
				t.Errorf("%d lines, want %d", lines, most)
			}
			if hidden+th.hidden+lines != refusals {
				t.Errorf("%d lines and %d hidden are not %d", lines, hidden+th.hidden, refusals)
			}
			other := th.hit(refusalKey{netip.MustParseAddr("192.0.2.1"), failure.Denied, "other.example", 443}, false, now)
			if c.most == totalLines != other.quiet {
				t.Errorf("another client's refusal: %+v", other)
			}
		})
	}
}

func TestThrottleMemoryIsBounded(t *testing.T) {
	var th throttle
	for i := range 3 * throttleMemory {
		client := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		th.hit(refusalKey{client: client, port: uint16(i), host: string(rune('a' + i%26)), class: failure.Denied}, false, time.Unix(1, 0))
	}
	if len(th.counts) > throttleMemory || len(th.clients) > throttleMemory {
		t.Errorf("%d refusals and %d clients remembered, want at most %d", len(th.counts), len(th.clients), throttleMemory)
	}
}
