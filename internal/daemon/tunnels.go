package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/feed"
	"proxyd/internal/printable"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// liveTunnels lists and closes live tunnels for an operator.
type liveTunnels struct {
	handler  *tunnel.Handler
	feeds    *feed.Table
	snapshot func() *router.Router
	add      func(event.Event)

	closing context.Context // ends what spread has begun; Run sets it
	working sync.WaitGroup  // what spread has begun
}

// found is a live tunnel that a filter has selected.
type found struct {
	tunnel.Live
	sampled feed.Tunnel
	quiet   time.Duration
}

// rows returns the rows of the tunnels that match f, the quietest first, at
// most limit of them unless that is 0.
func (o *liveTunnels) rows(f admin.Filter, limit int) ([]admin.Tunnel, error) {
	list, err := o.find(f)
	if err != nil {
		return nil, err
	}
	order := make([]*found, len(list)) // which moves faster than what it points to
	for i := range list {
		order[i] = &list[i]
	}
	slices.SortFunc(order, func(a, b *found) int { return cmp.Or(cmp.Compare(b.quiet, a.quiet), a.Start.Compare(b.Start)) })
	if limit > 0 && len(order) > limit {
		order = order[:limit]
	}
	rows := make([]admin.Tunnel, len(order))
	for i, t := range order {
		rows[i] = admin.Tunnel{
			ID: t.ID, Client: t.Client.String(), User: t.Label, Protocol: t.Protocol, Host: t.Host, Port: t.Port,
			Exchange: t.Exchange, Kind: t.Kind.String(), Rule: t.Rule, Pool: t.Pool, Upstream: t.Upstream, Via: t.Via,
			Started: t.Start, BytesUp: t.Live.Up, BytesDown: t.Live.Down, Up: t.sampled.Up, Down: t.sampled.Down,
			LastByte: t.sampled.LastByte, Quiet: t.quiet.Round(time.Second).Seconds(), HalfClosed: t.HalfClosed,
			Silent: t.sampled.Silent, ClientStalled: t.sampled.ClientStalled,
		}
	}
	return rows, nil
}

// find returns the live tunnels that match f.
func (o *liveTunnels) find(f admin.Filter) (list []found, err error) {
	if f.Exchange, err = exchangeID(o.snapshot(), f.Exchange); err != nil {
		return nil, err
	}
	now, upstreams := time.Now(), map[string]bool{}
	o.handler.Each(func(t tunnel.Live) bool {
		upstreams[t.Upstream] = true
		if f.ID != "" && f.ID != t.ID || f.Upstream != "" && f.Upstream != strings.ToLower(t.Upstream) ||
			f.Exchange != "" && f.Exchange != cmp.Or(t.Exchange, admin.NoExchange) || f.Kind != catalog.KindUnknown && f.Kind != t.Kind {
			return true
		}
		m := found{Live: t}
		m.sampled, _ = o.feeds.Tunnel(t)
		if m.quiet = quietFor(&m, now); m.quiet >= f.Quiet {
			list = append(list, m)
		}
		return true
	})
	if f.Upstream != "" && len(list) == 0 {
		return nil, knownUpstream(o.snapshot().Set(), f.Upstream, upstreams)
	}
	return list, nil
}

// quietNow returns for how long the exchange of a tunnel that was found has sent nothing.
func (o *liveTunnels) quietNow(l tunnel.Live) time.Duration {
	t := found{Live: l.Now()}
	t.sampled, _ = o.feeds.Tunnel(t.Live)
	return quietFor(&t, time.Now())
}

// quietFor returns for how long a tunnel's exchange has sent nothing; since it was
// opened, if that never did. Of one that came from another process it is not known
// at first: 0.
func quietFor(t *found, now time.Time) time.Duration {
	switch {
	case !t.sampled.LastByte.IsZero():
		return max(0, now.Sub(t.sampled.LastByte))
	case t.Live.Down == 0:
		return max(0, now.Sub(t.Start))
	}
	return 0
}

// exchangeID returns the id of an exchange by a name for it, without case, and "" for "".
func exchangeID(snap *router.Router, name string) (string, error) {
	name = strings.ToLower(name)
	c := snap.Config()
	id, ok := c.Known().Resolve(name)
	if !ok && name != "" && name != admin.NoExchange && !slices.ContainsFunc(c.Exchanges, func(e config.Exchange) bool { return e.ID == name }) {
		return "", fmt.Errorf("there is no exchange %q; see: proxyd exchanges", name)
	}
	return cmp.Or(id, name), nil
}

// knownUpstream returns an error if no upstream of the configuration has a name,
// and no live tunnel goes through one that had.
func knownUpstream(set *upstream.Set, name string, live map[string]bool) error {
	if set.Upstream(name) != nil || name == "direct" {
		return nil
	}
	for _, u := range set.Upstreams() {
		live[u.Name()] = true
	}
	names := make([]string, 0, len(live))
	for n := range live {
		if strings.ToLower(n) == name {
			return nil
		}
		names = append(names, n)
	}
	slices.Sort(names)
	return fmt.Errorf("there is no upstream %q; there are: %s", name, strings.Join(names, ", "))
}

// close ends the tunnels that match f, together or spread over a time, and returns
// how many; with dryRun, how many it would end.
func (o *liveTunnels) close(f admin.Filter, over time.Duration, dryRun bool) (int, error) {
	list, err := o.find(f)
	list = slices.DeleteFunc(list, func(t found) bool { return !t.Carrying }) // its client does not know of it yet
	if err != nil || len(list) == 0 || dryRun {
		return len(list), err
	}
	n, text := len(list), "being closed by the operator, spread over "+printable.Span(over)
	if over > 0 {
		o.spread(list, over, func(t *found) bool { return f.Quiet == 0 || o.quietNow(t.Live) >= f.Quiet })
	} else {
		n, text = closeNow(list), "closed by the operator"
	}
	f.Exchange, _ = exchangeID(o.snapshot(), f.Exchange) // find has looked
	if n > 0 {
		o.add(event.Event{
			Severity: event.Info, Type: event.TunnelsClosed, Exchange: f.Exchange, Kind: f.Kind.String(), Upstream: f.Upstream, Count: n,
			Text: tunnelsOf(f, n) + " " + text,
		})
	}
	return n, nil
}

// closeNow ends each of list, and returns how many had not ended by themselves.
func closeNow(list []found) (n int) {
	for _, t := range list {
		if t.Close() {
			n++
		}
	}
	return n
}

// tunnelsOf names tunnels in an event: "40 tunnels of okx websocket".
func tunnelsOf(f admin.Filter, n int) string {
	f.ID = ""
	words := f.Words()
	if f.Exchange != "" || f.Kind != catalog.KindUnknown {
		words = "of " + words
	}
	return strings.TrimSpace(printable.Count(n, "tunnel", "tunnels") + " " + words)
}

// spread ends each of list, the first at once and the last shortly before over is
// over, if it still matches then. It does not wait.
func (o *liveTunnels) spread(list []found, over time.Duration, matches func(*found) bool) {
	every := over / time.Duration(len(list))
	o.working.Go(func() { // ends with o.closing; Daemon.Run waits for it
		start := time.Now()
		for i := range list {
			select {
			case <-time.After(time.Until(start.Add(time.Duration(i) * every))):
				if matches(&list[i]) {
					list[i].Close()
				}
			case <-o.closing.Done():
				return
			}
		}
	})
}
