package feed

import (
	"fmt"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/printable"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
)

// silences is what a Table keeps to find silent feeds.
type silences struct {
	snapshot *router.Router // that the rules of the feeds come from
	phase    int            // of the next tunnel
	left     map[string]int // closes that an exchange may still have in this second
	closing  []closing      // to be closed when the lock is free
}

// closing is a tunnel that is to be closed.
type closing struct {
	tunnel.Live
	charge bool // it counts against its upstream
}

// closes is that n of so many watched tunnels of a feed were closed, some seconds ago.
type closes struct{ age, n, of int }

const (
	closesASecond = 10 // of one exchange
	closeTime     = 30 // seconds in which at most half of a feed's tunnels are closed
	groupTime     = 10 // seconds between two events about tunnels of one feed
	holdTime      = 60 // seconds for which they are held back at most while the feed itself may be falling silent
)

// watchSilence takes what a tunnel did in the last second. The lock is held.
func (t *Table) watchSilence(e *entry, l *tunnel.Live, s Second) {
	f := &e.feed.silence
	if f.rule == nil {
		if t.snapshot == nil {
			return
		}
		f.exchange, f.kind, f.upstream = e.feed.pair.key.exchange, e.feed.pair.key.kind, e.feed.upstream
		f.configure(t.snapshot.Config())
	}
	w := &e.silence
	if w.rule != f.rule {
		plain, mixed := kindOf(t.snapshot, l)
		w.restart(f.rule, t.silences.phase, mixed)
		w.plain = plain
		t.silences.phase++
	}
	if w.plain {
		return
	}
	w.second(f, s)
	if w.silent() && f.closes() {
		f.closable = append(f.closable, *l)
	}
}

// kindOf returns how a tunnel is watched: plain is one that carries requests and
// answers, mixed one of which only its traffic shows whether it streams.
func kindOf(r *router.Router, l *tunnel.Live) (plain, mixed bool) {
	if l.Kind == catalog.KindWebsocket {
		return false, false
	}
	kind := r.HostKind(l.Host)
	return kind == catalog.KindHTTP, kind != catalog.KindHTTP
}

// configure sets the rule of a configuration, and reports whether it is another one.
func (f *feedSilence) configure(c *config.Config) (changed bool) {
	rule := c.SilenceOf(f.exchange, f.kind)
	if f.rule != nil && *f.rule == rule {
		return false
	}
	f.rule = &rule
	f.learner.restart(0)
	return true
}

// judgeSilence decides, after each sample, which feeds are silent. The lock is held.
func (t *Table) judgeSilence(now time.Time) {
	if t.silences.snapshot != t.snapshot {
		t.silences.snapshot = t.snapshot
		t.reconfigureSilence()
	}
	t.silences.left = nil
	var active []*feedSilence
	var changed []*feedSilence
	usual := map[pairKey]int64{}
	for _, row := range t.feeds {
		f := &row.silence
		key := pairKey{f.exchange, f.kind}
		usual[key] = max(usual[key], f.typical)
		if f.rule != nil && row.live > 0 {
			u := t.snapshot.Set().Upstream(f.upstream)
			f.draining = u != nil && u.Drained(f.exchange)
		}
		if f.rule == nil || f.watched == 0 && f.state == "" && f.stalled == 0 {
			continue
		}
		active = append(active, f)
		if f.second() {
			changed = append(changed, f)
		}
	}
	scene := sceneOf(active)
	for _, f := range active {
		f.sibling = usual[pairKey{f.exchange, f.kind}]
		if f.state != "" {
			f.blame = scene.blameFor(f)
		}
	}
	for _, f := range changed {
		f.at = now.Add(-time.Duration(f.lasted) * time.Second)
		t.reportSilence(f, now)
	}
	for _, f := range active {
		t.reportTunnels(f)
		t.closeSilent(f, &scene)
		f.shown = f.row()
	}
	for _, row := range t.feeds {
		row.silence.reset()
	}
}

// reconfigureSilence gives each feed the rule of the configuration in force.
func (t *Table) reconfigureSilence() {
	for _, row := range t.feeds {
		f := &row.silence
		if f.rule == nil || !f.configure(t.snapshot.Config()) || f.state == "" {
			continue
		}
		f.state, f.shown = "", nil
		t.emitSilence(f, event.FeedBack, event.Info, f.silent, "the configuration has changed: its silence is measured anew", "")
	}
}

// emitSilence adds an event of a feed.
func (t *Table) emitSilence(f *feedSilence, typ event.Type, s event.Severity, n int, text, hint string) {
	t.events = append(t.events, event.Event{
		Severity: s, Type: typ, Exchange: f.exchange, Kind: f.kind.String(), Upstream: f.upstream, Count: n, Text: text, Hint: hint,
	})
}

// reportSilence emits that a feed has fallen silent, or is no longer.
func (t *Table) reportSilence(f *feedSilence, now time.Time) {
	f.began, f.ended = 0, 0
	if f.state != "" {
		n := f.silent
		if n == 0 {
			n = f.watched
		}
		t.emitSilence(f, event.FeedSilent, event.Error, n, "silent since "+printable.Clock(f.at, now)+": "+f.what()+"; "+f.blame.why, f.blame.hint)
		return
	}
	f.shown = nil
	text := "carries again after " + printable.Seconds(time.Duration(f.lasted)*time.Second)
	if f.watched == 0 {
		text = "none of its tunnels is open, or watched, any more"
	}
	t.emitSilence(f, event.FeedBack, event.Info, f.watched, text, "")
}

// reportTunnels emits what has changed of single tunnels: at once, and then what
// has come together in groupTime. While the whole feed carries less than usual it
// waits, since the other tunnels may follow.
func (t *Table) reportTunnels(f *feedSilence) {
	if f.state != "" {
		f.began, f.ended, f.held = 0, 0, 0
	}
	if f.wait > 0 {
		f.wait--
		return
	}
	if f.began == 0 && f.ended == 0 && f.unread == 0 {
		return
	}
	if f.held++; f.began > 0 && !f.goesOn() && f.held < holdTime {
		return
	}
	f.wait, f.held = groupTime, 0
	list := "list them: proxyd tunnels " + f.filter() + " --quiet 30s"
	if n := f.began; n > 0 {
		t.emitSilence(f, event.TunnelSilent, event.Warn, n, fmt.Sprintf("%d of %s silent while the feed goes on: %s", n, printable.Count(f.watched, "tunnel", "tunnels"), subscription(n)), list)
	}
	if n := f.ended; n > 0 {
		t.emitSilence(f, event.TunnelBack, event.Info, n, fmt.Sprintf("%d of the silent tunnels %s again", n, carries(n)), "")
	}
	if n := f.unread; n > 0 {
		t.emitSilence(f, event.ClientStalled, event.Warn, n, "the client of "+printable.Count(n, "tunnel", "tunnels")+" does not read: bytes wait for it", "look at the client: it is busy or hangs; "+list)
	}
	f.began, f.ended, f.unread = 0, 0, 0
}

func carries(n int) string {
	if n == 1 {
		return "carries"
	}
	return "carry"
}

func subscription(n int) string {
	if n == 1 {
		return "that subscription"
	}
	return "those subscriptions"
}

// closeSilent chooses which silent tunnels of a feed are closed: at most ten a
// second of an exchange, and half of the feed's in half a minute, one if it has no
// more.
func (t *Table) closeSilent(f *feedSilence, s *scene) {
	done, of := 0, f.watched // those that have been opened again are no further tunnels
	keep := f.closed[:0]
	for _, c := range f.closed {
		if c.age++; c.age < closeTime {
			keep = append(keep, c)
			done, of = done+c.n, max(of, c.of)
		}
	}
	f.closed = keep
	if len(f.closable) == 0 || !f.closes() {
		return
	}
	if t.silences.left == nil {
		t.silences.left = map[string]int{}
	}
	left, ok := t.silences.left[f.exchange]
	if !ok {
		left = closesASecond
	}
	n := min(len(f.closable), left, max(1, of/2)-done)
	if n <= 0 {
		return
	}
	t.silences.left[f.exchange] = left - n
	charge := len(s.pairs[pairKey{f.exchange, f.kind}].carry) > 0 && f.state != ""
	for _, l := range f.closable[:n] {
		t.silences.closing = append(t.silences.closing, closing{l, charge})
	}
	f.closed = append(f.closed, closes{n: n, of: f.watched})
	text := fmt.Sprintf("%s closed for silence (fewer than %d bytes in %s)", printable.Count(n, "tunnel", "tunnels"), f.rule.Bytes, printable.Seconds(f.rule.Window))
	t.emitSilence(f, event.TunnelsClosed, event.Warn, n, text, "their clients reconnect")
}

// takeClosing returns the tunnels to be closed. The lock is held; close them without
// it, since their ends come back as records.
func (t *Table) takeClosing() []closing {
	list := t.silences.closing
	t.silences.closing = nil
	return list
}

// close closes the tunnel.
func (c closing) close() {
	if c.CloseFor(tunnel.ReasonSilent) && c.charge && c.Member != nil {
		c.Member.FellSilent()
	}
}
