package health

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// Known is what a member remembers of a pair. Without an exchange it is about the
// member itself.
type Known struct {
	Opened  time.Time // when a connection for the pair was last opened, by traffic or a probe
	Carried time.Time // when a websocket tunnel of the pair last showed that the exchange is content with it
	Until   time.Time // rate-limited, and not to be asked before
	Ejected bool      // the member is out of use, and comes back through a probe
	Back    time.Time // when its ejection ends
}

// Options are what Run needs.
type Options struct {
	Router   func() *router.Router // the snapshot in force
	Known    func(Pair) Known
	Observe  func(Pair, Result) // takes what was found, of a member that comes back without an exchange; called by Run's goroutine alone
	Soon     <-chan []string    // members that are to be probed soon, where they are probed at all; may be nil
	Parallel int                // probes at once; 0: 8
	Roots    *x509.CertPool     // nil: the system's

	probe func(ctx context.Context, set *upstream.Set, p Pair, m Method) Result // nil: the real one
	rand  func() float64                                                        // 0 to 1
}

const (
	parallel        = 8
	defaultInterval = 30 * time.Second
	lookAgain       = time.Second      // how soon a new snapshot, or an ejection, is noticed
	tryReturn       = time.Second      // between the probes of a member that may come back
	firstWait       = 10 * time.Second // most that a first probe waits, so that a start is no burst
	starvation      = time.Second      // a probe that takes so much longer than it may, says nothing: this process was not running
)

// Run probes as long as ctx lives: the pairs of pools with a health_check that
// routes use, each at its interval, and members whose ejection ends. It waits
// for its probes before it returns, with nil.
func Run(ctx context.Context, o Options) error {
	if o.Router == nil || o.Known == nil || o.Observe == nil {
		return errors.New("health: Router, Known and Observe are needed")
	}
	l := newLoop(o)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		for _, j := range l.due(time.Now()) {
			set, pair, method := j.set, j.pair, j.method // a new snapshot changes the job's
			wg.Go(func() {                               // ends with the probe's own timeout, or ctx; Run waits
				r := l.probe(ctx, set, pair, method)
				select {
				case l.done <- outcome{j, r}:
				case <-ctx.Done():
				}
			})
		}
		timer := time.NewTimer(l.wait(time.Now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case got := <-l.done:
			l.take(got, time.Now())
		case names := <-l.Soon:
			l.hurry(names, time.Now())
		case <-timer.C:
		}
		timer.Stop()
	}
}

// job is something to probe, again and again.
type job struct {
	pair    Pair
	method  Method
	set     *upstream.Set
	every   time.Duration // 0: until the member is back
	next    time.Time
	until   time.Time // not to be asked before
	running bool
	asked   bool      // it is wanted, whatever traffic has shown
	good    time.Time // when it last succeeded
	turn    int       // of the exchanges through which a member may come back
	back    time.Time // when the member's ejection ends, as known last
}

// jobKey is a job's identity from one snapshot to the next.
type jobKey struct {
	member, url, exchange string
	kind                  uint8
	back                  bool // brings a member back
}

type outcome struct {
	*job
	result Result
}

// loop is the state of Run. Only its goroutine touches it.
type loop struct {
	Options
	done    chan outcome
	seen    *router.Router
	pairs   []Pair                      // that routes of seen use
	used    map[*upstream.Upstream]bool // members that something of seen leads to
	jobs    map[jobKey]*job
	running int
}

func newLoop(o Options) *loop {
	if o.Parallel <= 0 {
		o.Parallel = parallel
	}
	if o.rand == nil {
		o.rand = randomly
	}
	if o.probe == nil {
		o.probe = func(ctx context.Context, set *upstream.Set, p Pair, m Method) Result {
			dial, a := p.Ask(set, m)
			a.Roots = o.Roots
			return Probe(ctx, dial, a)
		}
	}
	return &loop{Options: o, done: make(chan outcome), jobs: map[jobKey]*job{}}
}

// due picks what is to be probed now, the longest due first, as many as there
// is room for.
func (l *loop) due(now time.Time) []*job {
	if r := l.Router(); r != l.seen {
		l.renew(r, now)
	}
	l.returning(now)
	var list []*job
	for _, j := range l.jobs {
		if !j.running && !now.Before(j.next) && !l.postpone(j, now) {
			list = append(list, j)
		}
	}
	slices.SortFunc(list, func(a, b *job) int { return a.next.Compare(b.next) })
	list = list[:min(len(list), l.Parallel-l.running)]
	for _, j := range list {
		j.running, j.asked = true, false
	}
	l.running += len(list)
	return list
}

// postpone puts a probe off where it is not needed or not wanted.
func (l *loop) postpone(j *job, now time.Time) bool {
	if j.pair.Member.Drained(j.pair.Exchange) { // no new connections
		j.next = nextLook(now)
		return true
	}
	k := l.Known(j.pair)
	if now.Before(k.Until) {
		j.next = k.Until.Add(l.jitter(tryReturn))
		return true
	}
	if j.every == 0 {
		return false
	}
	if k.Ejected { // it is asked as its return needs; many that are dead would keep others waiting
		j.next = nextLook(now)
		return true
	}
	// An open connection does not show what the exchange answers in it, and a refusal
	// of REST looks like an answer from outside.
	var at time.Time
	switch {
	case j.method != Exchange:
		at = later(k.Carried, k.Opened)
	case j.pair.Kind == catalog.KindWebsocket:
		at = k.Carried
	}
	if j.asked || at.IsZero() || now.Sub(at) >= j.every {
		return false
	}
	j.good = at
	j.next = at.Add(j.every)
	return true
}

// hurry brings the probes of members forward, not all to the same moment: other hosts do
// the same.
func (l *loop) hurry(names []string, now time.Time) {
	for _, j := range l.jobs {
		if j.every > 0 && slices.Contains(names, j.pair.Member.Name()) {
			j.asked, j.next = true, later(earlier(j.next, now.Add(l.jitter(tryReturn))), j.until)
		}
	}
}

// nextLook returns when to look again at all that is postponed, together.
func nextLook(now time.Time) time.Time { return now.Truncate(lookAgain).Add(lookAgain) }

// take hands a result over and plans the next probe.
func (l *loop) take(o outcome, now time.Time) {
	l.running--
	j, r := o.job, o.result
	j.running = false
	j.next = now.Add(j.every - l.jitter(j.every/5)) // earlier, never later: a change shows within an interval
	if j.every == 0 {
		j.next = now.Add(tryReturn + l.jitter(tryReturn/2))
	}
	allowed := j.pair.Health.Timeout
	if allowed <= 0 {
		allowed = defaultTimeout
	}
	if r.Took > allowed+starvation {
		return
	}
	j.until = r.Until
	j.next = later(j.next, j.until)
	if r.Verdict == OK {
		j.good = now
	}
	switch failure.Class(r.Verdict) {
	case failure.TargetRefused, failure.TargetUnreachable, failure.TargetDNS, failure.TargetTimeout:
		r.Unsure = r.Unsure && !l.othersSucceed(j, now)
	}
	if j.every == 0 && r.Unsure && !l.allTried(j, now) {
		return
	}
	p := j.pair
	if j.every == 0 { // whether the member is fit again; a connection does not show what the exchange answers
		p.Exchange, p.Kind = "", catalog.KindUnknown
	}
	l.Observe(p, r)
}

// othersSucceed reports whether another member of the pool succeeds for the same
// exchange where this one failed: then the member is to blame.
func (l *loop) othersSucceed(j *job, now time.Time) bool {
	for _, other := range l.jobs {
		if other != j && other.pair.Pool == j.pair.Pool && other.pair.Exchange == j.pair.Exchange && other.pair.Kind == j.pair.Kind &&
			other.pair.Member != j.pair.Member && !other.good.IsZero() && now.Sub(other.good) < 2*max(j.every, tryReturn) {
			return true
		}
	}
	return false
}

// wait returns how long nothing is due.
func (l *loop) wait(now time.Time) time.Duration {
	d := lookAgain
	for _, j := range l.jobs {
		if !j.running {
			d = min(d, j.next.Sub(now))
		}
	}
	if l.running >= l.Parallel {
		return lookAgain // the end of a probe comes first
	}
	return max(d, time.Millisecond)
}

// jitter returns a random part of d.
func (l *loop) jitter(d time.Duration) time.Duration { return time.Duration(l.rand() * float64(d)) }
