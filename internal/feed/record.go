package feed

import (
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"proxyd/internal/tunnel"
)

// Observe takes a record. It must see every record of the process; it does not
// block, and does not keep r.
func (t *Table) Observe(r *tunnel.Record) {
	switch r.Event {
	case tunnel.Opened, tunnel.Ended, tunnel.Moved, tunnel.Served, tunnel.Refused:
	default:
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.unlock()
	t.configure(now)
	p := t.pair(pairKey{r.Exchange, r.Kind}, now)
	switch r.Event {
	case tunnel.Opened:
		t.opened(p, r, now)
	case tunnel.Ended:
		t.ended(p, r, now)
	case tunnel.Moved:
		t.moved(r)
	case tunnel.Served:
		t.served(p, r, now)
	case tunnel.Refused:
		t.refused(p, r, now)
	}
	t.settle(p, now)
}

// Adopt takes a tunnel that came from another process: it is no request. Its end
// comes by Observe.
func (t *Table) Adopt(r tunnel.Record) {
	now := time.Now()
	t.mu.Lock()
	defer t.unlock()
	t.configure(now)
	p := t.pair(pairKey{r.Exchange, r.Kind}, now)
	f := t.feed(p, r.Upstream)
	e := &entry{feed: f, opened: r.Start.Sub(t.start), up: r.Up, down: r.Down, young: now.Sub(r.Start) < shortTime}
	t.adopted[r.ID] = e
	f.adopted(t.sec, now)
	p.adopted(t.sec, now)
	if p.live >= p.high {
		p.high, p.fell = p.live, time.Time{}
	}
	p.carrying = earliest(p.carrying, r.Start)
	if !e.young {
		p.steady++
		p.lasted(r.Start)
	}
	t.settle(p, now)
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (c *counts) adopted(sec int64, now time.Time) {
	c.live++
	c.used = now
	m := c.at(sec).minute()
	m.most = max(m.most, uint32(c.live)) //nolint:gosec // a count
}

// open counts a tunnel that has opened.
func (c *counts) open(sec int64, took time.Duration, now time.Time) {
	s := c.at(sec)
	c.live++
	c.used = now
	s.opened(took, c.live, true)
}

// leave counts a tunnel as open no more.
func (c *counts) leave(sec int64) {
	s := c.at(sec)
	c.live--
	s.second().ended++
}

// close counts the end of a tunnel that is open no more.
func (c *counts) close(sec int64, r *tunnel.Record, now time.Time) {
	c.at(sec).minute().closed++
	c.used = now
	c.lastClose = Close{Time: endOf(r, now), By: r.ClosedBy, Reason: string(r.Reason)}
}

// request counts a plain request, or an answer to an upgrade that was none.
func (c *counts) request(sec int64, r *tunnel.Record, now time.Time) {
	c.at(sec).opened(r.Dial, c.live, false)
	c.carried(r.Up, r.Down, now)
	c.used = now
}

// fail counts a failure.
func (c *counts) fail(sec int64, last Failure) {
	s := c.at(sec)
	c.used = last.Time
	s.minute().failed++
	s.second().failed++
	c.lastFailed = last
}

func (t *Table) opened(p *pair, r *tunnel.Record, now time.Time) {
	f := t.feed(p, r.Upstream)
	e := &entry{feed: f, opened: now.Sub(t.start), young: true}
	if r.Slot != nil {
		*r.Slot = e
	}
	f.open(t.sec, r.Dial, now)
	p.open(t.sec, r.Dial, now)
	t.attempts(p, r, now)
	p.rose(now)
}

// attempts counts the failed attempts before one that succeeded, for their feeds.
func (t *Table) attempts(p *pair, r *tunnel.Record, now time.Time) {
	for i := range r.Attempts {
		if a := &r.Attempts[i]; a.Upstream != "" {
			t.feed(p, a.Upstream).fail(t.sec, Failure{Time: now, Class: string(a.Class), Upstream: a.Upstream, Text: withoutHost(a.Text, r.Host)})
		}
	}
}

// Ending notes that a tunnel has ended whose record comes later, so that those that
// take its place are not counted beside it.
func (t *Table) Ending(r *tunnel.Record) {
	now := time.Now()
	t.mu.Lock()
	defer t.unlock()
	e := t.adopted[r.ID]
	if r.Slot != nil {
		if known, ok := (*r.Slot).(*entry); ok {
			e = known
		}
	}
	if e != nil {
		t.leave(e, endOf(r, now))
		t.settle(e.feed.pair, now)
	}
}

// leave counts the tunnel of e as open no more, once.
func (t *Table) leave(e *entry, ended time.Time) {
	if e.gone {
		return
	}
	e.gone = true
	f, p := e.feed, e.feed.pair
	before := p.live
	f.leave(t.sec)
	p.leave(t.sec)
	if !e.young {
		p.steady--
	}
	p.fall(before, ended)
}

func (t *Table) ended(p *pair, r *tunnel.Record, now time.Time) {
	e := t.take(r)
	if e == nil { // it ended before it carried: its client had left, or the server has answered the upgrade
		t.answered(p, r, now)
		return
	}
	f := e.feed
	up, down := e.progress(r.Up, r.Down)
	f.carried(up, down, now)
	p.carried(up, down, now)
	t.leave(e, endOf(r, now))
	f.close(t.sec, r, now)
	p.close(t.sec, r, now)
	p.cutBy = r.Upstream
	p.partial.ended(r, now)
	if r.Kind != catalog.KindWebsocket && wasServed(r) { // a request in a connection of its own
		p.answered = latest(p.answered, endOf(r, now))
	}
	switch lived := endOf(r, now).Sub(t.start) - e.opened; {
	case !e.young:
	case lived >= shortTime, wasServed(r):
		p.lasted(t.start.Add(e.opened))
	case endedAtOnce(r):
		p.short(r, now)
	}
}

// endOf returns when one side of a tunnel ended: its record comes later where the
// other side went on, or where it was not clear who ended it.
func endOf(r *tunnel.Record, now time.Time) time.Time {
	if at := r.Start.Add(r.Lasted); !r.Start.IsZero() && r.Lasted > 0 && at.Before(now) {
		return at
	}
	return now
}

// take returns the entry of a tunnel that has ended or moved.
func (t *Table) take(r *tunnel.Record) *entry {
	if r.Slot != nil {
		if e, ok := (*r.Slot).(*entry); ok {
			*r.Slot = nil
			return e
		}
	}
	e := t.adopted[r.ID]
	delete(t.adopted, r.ID)
	return e
}

func (t *Table) moved(r *tunnel.Record) {
	if e := t.take(r); e != nil && !e.gone {
		e.feed.live--
		p := e.feed.pair
		p.live--
		if !e.young {
			p.steady--
		}
		p.high, p.fell = p.live, time.Time{}
	}
}

// answered counts the end of a tunnel that has not carried.
func (t *Table) answered(p *pair, r *tunnel.Record, now time.Time) {
	if r.Reason == tunnel.ReasonAbandoned {
		return
	}
	t.feed(p, r.Upstream).request(t.sec, r, now)
	p.request(t.sec, r, now)
	t.attempts(p, r, now)
	if r.Class != "" {
		t.refused(p, r, now)
		return
	}
	if r.Kind == catalog.KindWebsocket { // it asked for an upgrade and got something else
		p.short(r, now)
		return
	}
	p.succeeded(now)
}

func (t *Table) served(p *pair, r *tunnel.Record, now time.Time) {
	if r.Class != "" && r.Class != failure.ClientGone {
		t.refused(p, r, now)
		return
	}
	t.feed(p, r.Upstream).request(t.sec, r, now)
	p.request(t.sec, r, now)
	t.attempts(p, r, now)
	if r.Class == "" {
		p.succeeded(now)
	}
}

// refused counts a request that got nothing, or an answer that was cut short.
func (t *Table) refused(p *pair, r *tunnel.Record, now time.Time) {
	if !failed(r) {
		return
	}
	t.attempts(p, r, now)
	last := Failure{Time: now, Class: string(r.Class), Upstream: r.Upstream, Text: withoutHost(r.Text, r.Host)}
	if len(r.Attempts) == 0 && r.Upstream != "" {
		t.feed(p, r.Upstream).fail(t.sec, last)
	}
	p.fail(t.sec, last)
	if counts := p.key.exchange != "" && r.Class != failure.Draining && !byRule(r); counts {
		p.failure(r, now)
	}
}

// patience is how long a client waits at least before its leaving says something of
// the upstream; those that leave within leaveTogether say it once.
const (
	patience      = 500 * time.Millisecond
	leaveTogether = time.Second
)

// failed reports whether a refusal is anything but the client's own. A client that
// leaves after it has waited for a while has been given nothing.
func failed(r *tunnel.Record) bool {
	switch r.Class {
	case failure.BadRequest, failure.Auth:
		return false
	case failure.ClientGone:
		return r.Event == tunnel.Refused && (r.Duration >= patience || len(r.Attempts) > 0)
	}
	return true
}

// byRule reports whether the configuration refuses exactly this host or exchange:
// the operator wants it so.
func byRule(r *tunnel.Record) bool {
	return r.Class == failure.Denied && (strings.HasPrefix(r.Rule, "routes[") || strings.HasPrefix(r.Rule, "exchange ") || r.Rule == "port 25")
}

// A tunnel that ends within shortTime, though the client has sent a request, looks
// like an exchange that turns the client away: one after the other is as bad as a
// refusal. A websocket that has carried servedBytes was served. For the other kind
// short connections are usual, unless not one byte came back.
const (
	shortTime   = 5 * time.Second
	servedBytes = 64 << 10 // many times a TLS handshake and an answer that says no
)

// wasServed reports whether a tunnel that has ended early was of use all the same.
func wasServed(r *tunnel.Record) bool {
	return r.Up > 0 && (r.Down >= servedBytes || r.Down > 0 && r.Kind != catalog.KindWebsocket)
}

// endedAtOnce reports whether a tunnel that has ended early looks like a refusal.
func endedAtOnce(r *tunnel.Record) bool {
	return r.Up > 0 && !wasServed(r) && r.ClosedBy != tunnel.ByProxyd
}

// maxText is the longest text of a failure that is kept.
const maxText = 200

// withoutHost returns a text without the name that the client gave, and cut.
func withoutHost(text, host string) string {
	text = printable.ASCII(text)
	if host == "" {
		return printable.Clean(text, maxText)
	}
	lower, host := strings.ToLower(text), strings.ToLower(host)
	var b strings.Builder
	for {
		at := strings.Index(lower, host)
		if at < 0 {
			break
		}
		b.WriteString(strings.TrimSuffix(text[:at], "target ")) // "the host is refused"
		b.WriteString("the host")
		text, lower = text[at+len(host):], lower[at+len(host):]
	}
	b.WriteString(text)
	return printable.Clean(b.String(), maxText)
}
