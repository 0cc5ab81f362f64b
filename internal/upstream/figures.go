package upstream

import (
	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/limit"
)

// poolExit leads the name of a pool where it stands for an exit. No exit has a
// space in it that does not follow a longer name.
const poolExit = "pool "

// jitterPart of the time that one may wait is what one that has waited may be
// late by, so that not all go in the moment a place comes free.
const jitterPart = 10

// limitSet are the budgets of one configuration. They hold on to nothing else.
type limitSet struct {
	exchanges map[pairKey]limit.Limits // those that are written
	exits     map[string]limit.Limits  // with those of pools, by poolExit and the name
	queues    bool                     // some exit's or pool's lets a connection wait
}

func newFigures(c *config.Config) *limitSet {
	f := &limitSet{exchanges: map[pairKey]limit.Limits{}, exits: map[string]limit.Limits{}}
	for _, e := range c.Exchanges {
		for _, k := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
			if l := e.Limits.Of(k); l != (config.Limits{}) {
				f.exchanges[pairKey{e.ID, k}] = held(l)
			}
		}
	}
	for _, p := range c.Pools {
		if p.Limits != (config.Limits{}) {
			f.exits[poolExit+p.Name] = held(p.Limits)
		}
		for _, m := range p.Proxies {
			if m.Enabled && m.Limits != (config.Limits{}) {
				f.exits[m.Exit] = smaller(f.exits[m.Exit], held(m.Limits))
			}
		}
	}
	for _, l := range f.exits {
		f.queues = f.queues || l.Queue > 0
	}
	return f
}

func held(l config.Limits) limit.Limits {
	return spread(limit.Limits{Connects: l.Connects, Per: l.Per, MaxConnections: l.MaxConnections, Queue: l.Queue})
}

// spread sets the jitter. A window gives many places back at once, connections
// end one by one.
func spread(l limit.Limits) limit.Limits {
	l.Jitter = 0
	if l.Connects > 0 {
		l.Jitter = l.Queue / jitterPart
	}
	return l
}

// smaller gives for each figure the one that lets less through; a may have none.
func smaller(a, b limit.Limits) limit.Limits {
	if !a.IsSet() {
		return b
	}
	l := a
	if b.Connects > 0 && (a.Connects == 0 || float64(b.Connects)*a.Per.Seconds() < float64(a.Connects)*b.Per.Seconds()) {
		l.Connects, l.Per = b.Connects, b.Per
	}
	if b.MaxConnections > 0 && (a.MaxConnections == 0 || b.MaxConnections < a.MaxConnections) {
		l.MaxConnections = b.MaxConnections
	}
	l.Queue = min(a.Queue, b.Queue)
	return spread(l)
}

// exchange gives the figures for each exit: those that are written, else those
// that the exchange publishes, which are only watched.
func (f *limitSet) exchange(k pairKey) limit.Limits {
	if l, ok := f.exchanges[k]; ok || k.exchange == "" {
		return l
	}
	l := held(config.Published(k.exchange, k.kind))
	l.Watch = true
	return l
}

// of gives a budget's figures by its name.
func (f *limitSet) of(k limit.Key) limit.Limits {
	if k.Exchange == "" {
		return f.exits[k.Exit]
	}
	for _, kind := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
		if kind.String() == k.Kind {
			return f.exchange(pairKey{k.Exchange, kind})
		}
	}
	return limit.Limits{}
}

// keys are the budgets that a connection needs, by their names: those that have
// figures. pool may be "".
func (f *limitSet) keys(to pairKey, exit, pool string) (list []limit.Key) {
	if l := f.exchange(to); l.IsSet() {
		list = append(list, limit.Key{Exchange: to.exchange, Kind: to.kind.String(), Exit: exit})
	}
	for _, name := range []string{exit, poolExit + pool} {
		if l := f.exits[name]; l.IsSet() {
			list = append(list, limit.Key{Exit: name})
		}
	}
	return list
}
