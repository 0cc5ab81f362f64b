package tunnel

import (
	"net/netip"
	"testing"
	"time"

	"proxyd/internal/upstream"
)

func TestIdenticalRefusalsAreQuietedThenSlowed(t *testing.T) {
	var th throttle
	key := refusalKey{netip.MustParseAddr("127.0.0.1"), upstream.ClassUpstreamRefused, "api.binance.com", 443}
	now := time.Unix(1000, 0)
	loud, slow := 0, 0
	for range 50 {
		quiet, _, delay := th.hit(key, now)
		if !quiet {
			loud++
		}
		if delay > 0 {
			slow++
		}
	}
	if loud != loudPerSecond || slow != 50-fastPerSecond {
		t.Errorf("got %d logged and %d slowed, want %d and %d", loud, slow, loudPerSecond, 50-fastPerSecond)
	}
	quiet, repeated, delay := th.hit(key, now.Add(time.Second))
	if quiet || delay != 0 || repeated != 50-loudPerSecond {
		t.Errorf("a second later: quiet %v, delay %v, repeated %d; want it logged at once, with %d repeated", quiet, delay, repeated, 50-loudPerSecond)
	}
}

func TestRefusalsWithRetryAfterAreNotSlowed(t *testing.T) {
	var th throttle
	for _, class := range []upstream.Class{upstream.ClassBudget, upstream.ClassDraining, upstream.ClassOverload} {
		for range 100 {
			if _, _, delay := th.hit(refusalKey{class: class}, time.Unix(1, 0)); delay != 0 {
				t.Fatalf("%s: delayed by %v", class, delay)
			}
		}
	}
}

func TestThrottleMemoryIsBounded(t *testing.T) {
	var th throttle
	for i := range 3 * throttleMemory {
		th.hit(refusalKey{port: uint16(i), host: string(rune('a' + i%26)), class: upstream.ClassDenied}, time.Unix(1, 0))
	}
	if n := len(th.counts); n > throttleMemory {
		t.Errorf("%d refusals remembered, want at most %d", n, throttleMemory)
	}
}

func TestEveryClassHasAnAnswer(t *testing.T) {
	for class, a := range answers {
		if a.HTTP < 400 || a.SOCKS5 < 1 || a.SOCKS5 > 8 || a.Proxy == "" || a.Blame == "" {
			t.Errorf("%s: %+v is no whole answer", class, a)
		}
		switch a.HTTP {
		case 401, 418, 422, 429, 451:
			t.Errorf("%s: %d would be read as the exchange's", class, a.HTTP)
		}
	}
}
