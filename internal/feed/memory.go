package feed

import (
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
)

// Memory is what the next process must know of an exchange and kind, so that what is
// lost stays so, since when it was, and what it had. Rates and counts start anew.
type Memory struct {
	Exchange  string
	Kind      catalog.Kind
	State     State
	Since     time.Time
	Announced bool
	Tunnels   int // open when the process was left

	Failures, Shorts        int
	FailedSince, FailedLast time.Time
	ByClient                bool
	Causes                  []CauseMemory
	High                    int
	Fell, Answered, Ended   time.Time
	LastClose               Close
	LastFailed              Failure
}

// CauseMemory is a cause of failures.
type CauseMemory struct {
	Class        failure.Class
	Upstream, By string
	Last         time.Time
}

// Export returns what the next process must know.
func (t *Table) Export() (list []Memory) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.order {
		if p.state == NoTraffic && p.failures+p.shorts == 0 {
			continue
		}
		m := Memory{
			Exchange: p.key.exchange, Kind: p.key.kind, State: p.state, Since: p.since, Announced: p.announced, Tunnels: p.live,
			Failures: p.failures, Shorts: p.shorts, FailedSince: p.failedSince, FailedLast: p.failedLast, ByClient: p.byClient,
			High: p.high, Fell: p.fell, Answered: p.answered, Ended: p.ended, LastClose: p.lastClose, LastFailed: p.lastFailed,
		}
		for _, c := range p.causes {
			m.Causes = append(m.Causes, CauseMemory{c.class, c.upstream, c.by, c.last})
		}
		list = append(list, m)
	}
	return list
}

// Import takes over what another process has exported. It is for a table that has
// seen nothing yet.
func (t *Table) Import(list []Memory) {
	now := time.Now()
	t.mu.Lock()
	defer t.unlock()
	t.configure(now)
	for i := range list {
		m := &list[i]
		p := t.pair(pairKey{m.Exchange, m.Kind}, now)
		p.used, p.inherited = now, m.Tunnels
		p.failures, p.shorts, p.failedSince, p.failedLast, p.byClient = m.Failures, m.Shorts, m.FailedSince, m.FailedLast, m.ByClient
		p.high, p.fell, p.answered, p.lastClose, p.lastFailed = m.High, m.Fell, m.Answered, m.LastClose, m.LastFailed
		if m.Tunnels == 0 { // else they are not all over
			p.ended = m.Ended
		}
		if p.high > 0 && p.fell.IsZero() { // they are open there, or come from there
			p.high = 0
		}
		for _, c := range m.Causes {
			p.causes = append(p.causes, cause{class: c.Class, upstream: c.Upstream, by: c.By, last: c.Last})
		}
		if m.State == Lost || m.State == Idle {
			p.state, p.since, p.turned, p.announced = m.State, m.Since, now, m.Announced
		}
		t.settle(p, now)
	}
}
