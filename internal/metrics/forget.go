package metrics

import "time"

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
	m.mu.Lock()
	defer m.mu.Unlock()
	full, inUse := len(m.feeds) >= maxFeeds, map[string]bool{}
	for key, f := range m.feeds {
		f.settle(f.active > 0, now)
		if f.active > 0 {
			inUse[f.upstream] = true
		} else if f.hidden && full || !upstreams.have(f.upstream) || !exchanges.have(key.exchange) {
			delete(m.feeds, key)
			feeds = append(feeds, f)
		}
	}
	full = len(m.upstreams) >= maxFeeds
	for name, u := range m.upstreams {
		u.settle(inUse[name], now)
		if !inUse[name] && (u.hidden && full || !upstreams.have(name)) {
			delete(m.upstreams, name)
			others = append(others, u)
		}
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
