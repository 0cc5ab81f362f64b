package metrics

import (
	"maps"
	"slices"
	"time"
)

// settle updates what depends on live tunnels, the configuration and the clock.
func (m *Metrics) settle() {
	if m.o.Tunnels != nil {
		m.o.Tunnels(m.progress)
	}
	m.forget(time.Now())
}

// forget hides series that were not in use for long, and drops those of names that
// the configuration no longer has, once no tunnel of theirs is open.
func (m *Metrics) forget(now time.Time) {
	upstreams, exchanges := nameSet(m.o.Upstreams), nameSet(m.o.Exchanges)
	upstreams.add("", otherUpstream)
	exchanges.add("")
	feeds, others := m.remove(upstreams, exchanges, now)
	for _, f := range feeds { // outside the lock: nothing refers to them any more
		m.deleteFeed(f)
	}
	for _, u := range others {
		m.dials.DeleteLabelValues(u.upstream)
		for class := range u.errors {
			m.dialErrors.DeleteLabelValues(u.upstream, string(class))
		}
	}
}

// remove takes out what forget drops, and returns it.
func (m *Metrics) remove(upstreams, exchanges names, now time.Time) (feeds []*feedSeries, others []*upstreamSeries) {
	inUse := map[string]bool{}
	inSteps(&m.mu, &m.feedList, func(f *feedSeries) {
		f.settle(f.active > 0, now)
		switch {
		case f.active > 0:
			inUse[f.upstream] = true
		case m.feeds[f.key] != f: // another scrape has dropped it
		case f.hidden && len(m.feeds) >= maxFeeds, !upstreams.have(f.upstream), !exchanges.have(f.key.exchange):
			delete(m.feeds, f.key)
			feeds = append(feeds, f)
		}
	})
	inSteps(&m.mu, &m.upstreamList, func(u *upstreamSeries) {
		u.settle(inUse[u.upstream], now)
		drop := u.hidden && len(m.upstreams) >= maxFeeds || !upstreams.have(u.upstream)
		if drop && !inUse[u.upstream] && m.upstreams[u.upstream] == u {
			delete(m.upstreams, u.upstream)
			others = append(others, u)
		}
	})
	if len(feeds)+len(others) > 0 {
		m.mu.Lock()
		m.feedList, m.upstreamList = slices.Collect(maps.Values(m.feeds)), slices.Collect(maps.Values(m.upstreams))
		m.mu.Unlock()
	}
	return feeds, others
}

func (m *Metrics) deleteFeed(f *feedSeries) {
	for outcome := range f.requests {
		m.requests.DeleteLabelValues(f.exchange, f.kind, f.upstream, outcome)
	}
	for end := range f.closed {
		m.closed.DeleteLabelValues(f.exchange, f.kind, f.upstream, end.by, end.reason)
	}
	m.active.DeleteLabelValues(f.exchange, f.kind, f.upstream)
	m.bytes.DeleteLabelValues(f.exchange, f.kind, f.upstream, "up")
	m.bytes.DeleteLabelValues(f.exchange, f.kind, f.upstream, "down")
}

// names is a set of names. A nil one has all.
type names map[string]bool

func nameSet(list func() []string) names {
	if list == nil {
		return nil
	}
	set := names{}
	for _, name := range list() {
		set[name] = true
	}
	return set
}

func (n names) add(list ...string) {
	if n == nil {
		return
	}
	for _, name := range list {
		n[name] = true
	}
}

func (n names) have(name string) bool { return n == nil || n[name] }
