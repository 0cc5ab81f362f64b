package feed

import (
	"context"
	"slices"
	"sync"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// Options are what a Table needs.
type Options struct {
	Snapshot func() *router.Router        // the configuration in force
	Each     func(func(tunnel.Live) bool) // the live tunnels
	Emit     func(event.Event)            // takes what an operator should read later; must not block
}

// Table keeps what is known of the feeds. Its methods are safe for concurrent use.
type Table struct {
	o     Options
	start time.Time

	mu         sync.Mutex
	sec        int64          // the current second, since start
	snapshot   *router.Router // that the rows were made for
	configured time.Time      // when that was
	pairs      map[pairKey]*pair
	order      []*pair // the same
	known      map[feedKey]*feedRow
	feeds      []*feedRow        // the same
	adopted    map[string]*entry // by a tunnel's id: those that no sample has met yet
	events     []event.Event     // to be emitted when the lock is free
	silences   silences
}

// pairKey is an exchange, "" for hosts of none, and a kind.
type pairKey struct {
	exchange string
	kind     catalog.Kind
}

type feedKey struct {
	pairKey
	upstream string
}

// feedRow is a feed: the tunnels of an exchange and kind through one upstream.
type feedRow struct {
	counts
	pair     *pair
	upstream string
	silence  feedSilence
}

// MaxFeeds bounds the rows. The tunnels of what comes on top count for the upstream
// OtherUpstream.
const MaxFeeds = 2000

// OtherUpstream stands for the upstreams that have no row of their own.
const OtherUpstream = "other"

// keepFor is how long a row stays that carries nothing, once the configuration does
// not name it.
const keepFor = time.Hour

// New returns a Table. It starts nothing.
func New(o Options) *Table {
	return &Table{
		o: o, start: time.Now(), pairs: map[pairKey]*pair{}, known: map[feedKey]*feedRow{}, adopted: map[string]*entry{},
	}
}

// Run samples the live tunnels once a second until ctx ends.
func (t *Table) Run(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			t.tick(time.Now())
		}
	}
}

// tick ends a second: it samples, and looks at every row. Ticks come a little early
// or late, so they are counted; what a halt of the machine swallowed is made up for.
func (t *Table) tick(now time.Time) {
	t.sample(now)
	t.mu.Lock()
	defer t.unlock()
	t.configure(now)
	t.judgeSilence(now)
	for _, f := range t.feeds {
		f.flush(t.sec)
	}
	for _, p := range t.order {
		p.flush(t.sec)
		p.checkPool(now)
		t.settle(p, now)
		t.announce(p, now)
	}
	t.sec++
	if passed := int64(now.Sub(t.start) / time.Second); passed > t.sec+2 {
		t.sec = passed
	}
	if t.sec%60 == 0 {
		t.forget(now)
	}
}

// unlock lets go of the lock and emits what came up meanwhile.
func (t *Table) unlock() {
	events := t.events
	t.events = nil
	closing := t.takeClosing()
	t.mu.Unlock()
	for _, c := range closing {
		c.close()
	}
	for _, e := range events {
		t.o.Emit(e)
	}
}

// configure makes the rows of the configuration in force, once for each.
func (t *Table) configure(now time.Time) {
	snap := t.o.Snapshot()
	if snap == t.snapshot || snap == nil {
		return
	}
	t.snapshot, t.configured = snap, now
	for _, p := range t.order {
		p.configured, p.outbound, p.pool, p.noMember = false, "", nil, nil
	}
	c := snap.Config()
	for i := range c.Exchanges {
		e := &c.Exchanges[i]
		for _, kind := range catalog.Kinds {
			p := t.pair(pairKey{e.ID, kind}, now)
			p.configured = true
			out := e.Outbounds.Of(kind)
			if out == nil {
				out = c.Default.Of(kind)
			}
			p.outbound, p.pool = outboundOf(snap, out)
		}
	}
	for _, p := range t.order {
		p.checkPool(now)
		t.settle(p, now)
	}
}

func outboundOf(snap *router.Router, out *config.Outbound) (word string, pool *upstream.Pool) {
	switch {
	case out == nil || out.Action == config.Direct || out.Action == config.Use && !snap.Config().Enabled:
		return "direct", nil
	case out.Action == config.Reject:
		return "reject", nil
	}
	return out.Pool, snap.Set().Pool(out.Pool)
}

// pair returns the row of an exchange and kind, a new one if need be.
func (t *Table) pair(k pairKey, now time.Time) *pair {
	p := t.pairs[k]
	if p == nil {
		p = &pair{key: k, state: NoTraffic, since: now}
		t.pairs[k] = p
		t.order = append(t.order, p)
	}
	return p
}

// feed returns the row of a pair's upstream, a new one if need be.
func (t *Table) feed(p *pair, name string) *feedRow {
	if f := t.known[feedKey{p.key, name}]; f != nil {
		return f
	}
	if len(t.feeds) >= MaxFeeds {
		if f := t.known[feedKey{p.key, OtherUpstream}]; f != nil {
			return f
		}
		name = OtherUpstream
	}
	f := &feedRow{pair: p, upstream: name}
	t.known[feedKey{p.key, name}] = f
	p.feeds = append(p.feeds, f)
	t.feeds = append(t.feeds, f)
	return f
}

// drop takes a feed out.
func (p *pair) drop(f *feedRow) {
	p.feeds = slices.DeleteFunc(p.feeds, func(have *feedRow) bool { return have == f })
}

// forget drops rows that carry nothing: feeds, and pairs that the configuration
// does not name.
func (t *Table) forget(now time.Time) {
	idle := func(c *counts) bool { return c.live == 0 && now.Sub(c.used) > keepFor }
	feeds := t.feeds[:0]
	for _, f := range t.feeds {
		if idle(&f.counts) {
			delete(t.known, feedKey{f.pair.key, f.upstream})
			f.pair.drop(f)
			continue
		}
		feeds = append(feeds, f)
	}
	clear(t.feeds[len(feeds):])
	t.feeds = feeds
	order := t.order[:0]
	for _, p := range t.order {
		if !p.configured && idle(&p.counts) {
			delete(t.pairs, p.key)
			continue
		}
		order = append(order, p)
	}
	clear(t.order[len(order):])
	t.order = order
}

// settle brings the state of a pair up to date.
func (t *Table) settle(p *pair, now time.Time) {
	if p.failures >= lostAfter && p.shorts == 0 && now.Sub(p.failedLast) > curedAfter && p.cured(t.snapshot, t.configured) {
		p.worked()
	}
	state, since := p.judge(now)
	if state == p.state {
		return
	}
	before, began := p.state, p.since
	if before.Bad() && state == OK {
		since = now
	}
	p.state, p.since, p.turned = state, since, now
	if state == Idle || state == NoTraffic {
		p.carrying = time.Time{}
	}
	if before == Lost && p.announced {
		p.announced = false
		e := t.event(p, event.ExchangeBack, event.Info, now)
		e.Text, e.Count = p.backWords(began, now), p.live
		t.events = append(t.events, e)
	}
}

// announceAfter is how long an exchange is lost before there is an event of it: the
// records of tunnels that have ended come up to 350 ms after their end, and the
// event gives the number of them. That of one which no client has asked for is not news.
const announceAfter = 400 * time.Millisecond

// announce emits that an exchange is lost, once.
func (t *Table) announce(p *pair, now time.Time) {
	if p.state != Lost || p.announced || p.used.IsZero() || now.Sub(p.turned) < announceAfter {
		return
	}
	p.announced = true
	e := t.event(p, event.ExchangeLost, event.Error, now)
	e.Text, _ = p.words(t.sec, now)
	e.Hint, e.Count = p.hint(t.file()), max(0, p.high-p.live)
	t.events = append(t.events, e)
}

func (t *Table) event(p *pair, typ event.Type, s event.Severity, now time.Time) event.Event {
	e := event.Event{Time: now, Type: typ, Severity: s, Exchange: p.key.exchange, Kind: p.key.kind.String()}
	switch list := p.upstreams(); len(list) {
	case 0:
	case 1:
		e.Upstream = list[0]
	default:
		e.Upstreams = list
	}
	return e
}

// file returns the configuration's file, "" if there is none.
func (t *Table) file() string {
	if t.snapshot == nil {
		return ""
	}
	return t.snapshot.Config().File
}
