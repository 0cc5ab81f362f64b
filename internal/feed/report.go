package feed

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Report returns the rows.
func (t *Table) Report() Report {
	now := time.Now()
	t.mu.Lock()
	defer t.unlock()
	t.configure(now)
	r := Report{Time: now, Exchanges: t.exchanges(now, true), Feeds: make([]Feed, 0, len(t.feeds))}
	for i, f := range slices.Clone(t.feeds) {
		t.pause(i)
		row := Feed{Exchange: f.pair.key.exchange, Kind: f.pair.key.kind.String(), Upstream: f.upstream, Silence: f.silence.now()}
		f.fill(&row.Counts, t.sec)
		r.Feeds = append(r.Feeds, row)
	}
	slices.SortFunc(r.Feeds, func(a, b Feed) int {
		return cmp.Or(strings.Compare(a.Exchange, b.Exchange), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Upstream, b.Upstream))
	})
	return r
}

// Exchanges returns the rows of the exchanges as Report does, without History.
func (t *Table) Exchanges() []Exchange {
	now := time.Now()
	t.mu.Lock()
	defer t.unlock()
	t.configure(now)
	return t.exchanges(now, false)
}

// pause lets others in between two rows, now and then: no tunnel waits for a report.
func (t *Table) pause(row int) {
	if row%rowsAtOnce == rowsAtOnce-1 {
		t.mu.Unlock()
		t.mu.Lock()
	}
}

// rowsAtOnce are read in less than 100 µs.
const rowsAtOnce = 32

func (t *Table) exchanges(now time.Time, history bool) []Exchange {
	rows := make([]Exchange, 0, len(t.order))
	for i, p := range slices.Clone(t.order) {
		t.pause(i)
		p.checkPool(now)
		t.settle(p, now)
		if !p.configured && p.used.IsZero() {
			continue // it left the configuration before anything used it
		}
		row := Exchange{
			Exchange: p.key.exchange, Kind: p.key.kind.String(), Configured: p.configured, Outbound: p.outbound,
			State: p.state, Since: p.since, Hint: p.hint(t.file()), Retrying: p.retrying(now),
		}
		row.Text, row.Cause = p.words(t.sec, now)
		if p.state.Bad() {
			row.Lost = max(0, p.high-p.live)
		}
		if p.state == Silent {
			row.Silent = p.silentTunnels()
		}
		if history {
			row.History = p.history(t.sec)
		}
		p.fill(&row.Counts, t.sec)
		rows = append(rows, row)
	}
	Sort(rows)
	return rows
}

// Sort puts the worst rows first.
func Sort(rows []Exchange) { slices.SortFunc(rows, worse) }

// worse sorts the rows of exchanges: those that are lost first, with the most
// tunnels lost first among them, and those that no client misses behind silent ones.
func worse(a, b Exchange) int {
	rank := func(e *Exchange) int {
		switch {
		case e.Unused():
			return 2
		case e.State == Lost:
			return 0
		case e.State == Silent:
			return 1
		}
		return 3
	}
	return cmp.Or(rank(&a)-rank(&b), b.Lost-a.Lost, strings.Compare(a.Exchange, b.Exchange), strings.Compare(a.Kind, b.Kind))
}

// SameCause returns the rows that are lost or silent, those of one state and cause
// together, in their order.
func SameCause(rows []Exchange) (groups [][]*Exchange) {
	at := map[[2]string]int{}
	for i := range rows {
		e := &rows[i]
		if !e.State.Bad() {
			continue
		}
		key := [2]string{string(e.State), cmp.Or(e.Cause, e.Exchange+" "+e.Kind)}
		n, known := at[key]
		if !known {
			n = len(groups)
			at[key], groups = n, append(groups, nil)
		}
		groups[n] = append(groups[n], e)
	}
	return groups
}
