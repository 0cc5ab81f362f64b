package tunnel

import (
	"net/netip"
	"sync"
	"time"

	"proxyd/internal/failure"
)

const (
	loggedPerSecond = 5  // identical refusals to one client that are logged in a second
	fastPerSecond   = 20 // and answered at once
	slowDelay       = 250 * time.Millisecond
	throttleMemory  = 4096 // different refusals, and clients, remembered
)

// The lines that refusals may cost, however different they are: so many at
// once, and so many a second from then on.
var (
	clientLines = rate{burst: 100, perSecond: 2}
	earlyLines  = rate{burst: 100, perSecond: 2} // of all clients, before one has shown that it may connect
	totalLines  = rate{burst: 200, perSecond: 10}
)

// rate is a limit on events.
type rate struct{ burst, perSecond float64 }

// allowance is what a rate leaves. The zero value has all of it.
type allowance struct {
	spent float64
	at    time.Time
}

// take spends one. It returns false when none is left.
func (a *allowance) take(r rate, now time.Time) bool {
	a.refill(r, now)
	if a.spent+1 > r.burst {
		return false
	}
	a.spent++
	return true
}

func (a *allowance) refill(r rate, now time.Time) {
	a.spent = max(0, a.spent-r.perSecond*max(0, now.Sub(a.at).Seconds()))
	a.at = now
}

// refusalKey identifies identical refusals: the same answer to the same client.
type refusalKey struct {
	client netip.Addr
	class  failure.Class
	host   string
	port   uint16
}

type refusalCount struct {
	seen  int // in this second
	quiet int // not logged since the last that was
}

// throttle counts refusals, so that clients that retry in a tight loop, or try
// one thing after the other, neither flood the log nor burn the machine.
type throttle struct {
	mu      sync.Mutex
	second  int64
	counts  map[refusalKey]*refusalCount
	clients map[netip.Addr]*allowance
	early   allowance
	all     allowance
	hidden  int // refusals that their rates have kept from the log since the last line
}

// hit says how a refusal is treated.
type hit struct {
	quiet    bool          // do not log it
	repeated int           // identical ones that were not logged before it
	hidden   int           // others that were not
	delay    time.Duration // how long its answer has to wait
}

// record counts a refusal and notes in r what becomes of its line. It returns
// how long the answer has to wait.
func (t *throttle) record(r *Record) (delay time.Duration) {
	early := r.Step == "request" // the front end has refused it by itself: the client may be anyone
	h := t.hit(refusalKey{r.Client.Addr(), r.Class, r.Host, r.Port}, early, time.Now())
	r.Quiet, r.Repeated, r.Hidden = h.quiet, h.repeated, h.hidden
	return h.delay
}

// hit counts one refusal.
func (t *throttle) hit(k refusalKey, early bool, now time.Time) (h hit) {
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
		h.delay = slowDelay
	}
	if c.seen > loggedPerSecond {
		c.quiet++
		h.quiet = true
		return h
	}
	if !t.mayLog(k.client, early, now) {
		t.hidden++
		h.quiet = true
		return h
	}
	h.repeated, c.quiet = c.quiet, 0
	h.hidden, t.hidden = t.hidden, 0
	return h
}

// mayLog spends a line. It returns false when the rates leave none.
func (t *throttle) mayLog(client netip.Addr, early bool, now time.Time) bool {
	return t.allowanceOf(client, now).take(clientLines, now) &&
		(!early || t.early.take(earlyLines, now)) && t.all.take(totalLines, now)
}

// allowanceOf returns the allowance of a client. IPv6 addresses of one network
// (/64) are one client: it can choose among them as it likes.
func (t *throttle) allowanceOf(client netip.Addr, now time.Time) *allowance {
	if client.Is6() && !client.Is4In6() {
		p, _ := client.Prefix(64) // fails for other lengths alone
		client = p.Addr()
	}
	a := t.clients[client]
	if a != nil {
		return a
	}
	if len(t.clients) >= throttleMemory {
		for k, old := range t.clients {
			if old.refill(clientLines, now); old.spent == 0 {
				delete(t.clients, k)
			}
		}
		if len(t.clients) >= throttleMemory {
			clear(t.clients) // what all may cost holds nevertheless
		}
	}
	if t.clients == nil {
		t.clients = map[netip.Addr]*allowance{}
	}
	a = &allowance{at: now}
	t.clients[client] = a
	return a
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

// slowable reports whether identical refusals of a class may be slowed down:
// those with a Retry-After slow the client down themselves.
func slowable(c failure.Class) bool {
	return c != failure.Budget && c != failure.Draining && c != failure.Overload
}
