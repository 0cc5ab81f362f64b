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
			State: p.state, Since: p.since, Text: p.words(t.sec, now), Hint: p.hint(t.file()),
		}
		if p.state.Bad() {
			row.Lost = max(0, p.high-p.live)
		}
		switch s := p.silence(); {
		case p.state == Lost:
			row.Cause, row.Retrying = p.cause(), p.retrying(now)
		case p.state == Silent && s != nil:
			row.Cause, row.Silent = s.why, p.silentTunnels()
		case p.noMember != nil:
			row.Cause = memberWords(p.noMember, "")
		default:
			_, row.Cause = p.unwell(t.sec, now)
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
		switch e.State {
		case Lost:
			if !e.Asked() {
				return 2
			}
			return 0
		case Silent:
			return 1
		case OK, Idle, NoTraffic:
		}
		return 3
	}
	return cmp.Or(rank(&a)-rank(&b), b.Lost-a.Lost, strings.Compare(a.Exchange, b.Exchange), strings.Compare(a.Kind, b.Kind))
}
