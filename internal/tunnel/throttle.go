package tunnel

import (
	"net/netip"
	"sync"
	"time"

	"proxyd/internal/upstream"
)

const (
	loudPerSecond  = 5  // identical refusals to one client that are logged in a second
	fastPerSecond  = 20 // and answered at once
	slowedBy       = 250 * time.Millisecond
	throttleMemory = 4096 // different refusals remembered
)

// refusalKey tells identical refusals: the same answer to the same client.
type refusalKey struct {
	client netip.Addr
	class  upstream.Class
	host   string
	port   uint16
}

type refusalCount struct {
	seen  int // in this second
	quiet int // not logged since the last that was
}

// throttle counts identical refusals, so that a client that retries in a tight
// loop neither floods the log nor burns the machine.
type throttle struct {
	mu     sync.Mutex
	second int64
	counts map[refusalKey]*refusalCount
}

// hit counts one refusal: whether to log it, how many were not logged before
// it, and how long its answer has to wait.
func (t *throttle) hit(k refusalKey, now time.Time) (quiet bool, repeated int, delay time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := now.Unix(); s != t.second {
		t.second = s
		t.newSecond()
	}
	c := t.counts[k]
	if c == nil {
		if len(t.counts) >= throttleMemory {
			clear(t.counts)
		}
		c = &refusalCount{}
		t.counts[k] = c
	}
	c.seen++
	if c.seen > fastPerSecond && slowable(k.class) {
		delay = slowedBy
	}
	if c.seen > loudPerSecond {
		c.quiet++
		return true, 0, delay
	}
	repeated, c.quiet = c.quiet, 0
	return false, repeated, delay
}

func (t *throttle) newSecond() {
	if t.counts == nil {
		t.counts = map[refusalKey]*refusalCount{}
	}
	for k, c := range t.counts {
		if c.quiet == 0 {
			delete(t.counts, k)
			continue
		}
		c.seen = 0
	}
}

// slowable says whether identical refusals of a class may be slowed down:
// those with a Retry-After tell the client themselves.
func slowable(c upstream.Class) bool {
	return c != upstream.ClassBudget && c != upstream.ClassDraining && c != upstream.ClassOverload
}
