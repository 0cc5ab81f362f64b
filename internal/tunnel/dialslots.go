package tunnel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// dialSlots bounds the connections that are being opened at once: all of them,
// and those of one share. A share is a pool or, where connections leave directly,
// one target's host, so that a dead one does not hold up the others. A share takes
// at most as many slots as it leaves free: a new one always finds some, until very
// many are stuck. Its methods are safe for concurrent use.
type dialSlots struct {
	mu     sync.Mutex
	most   int // slots
	each   int // of them for one share
	used   int
	last   uint64              // the ticket of the last request that had to wait
	shares map[shareKey]*share // those that use slots or wait for them
}

// shareKey names a share; host is "" for a pool of proxies.
type shareKey struct{ pool, host string }

// share is what one share uses, and the requests that wait, in their order.
type share struct {
	used    int
	waiting []slotWaiter
}

// slotWaiter is a request that waits; ready is closed when it has its slot.
type slotWaiter struct {
	ticket uint64
	ready  chan struct{}
}

// shareOf returns the share to which a route's dials belong.
func shareOf(route *router.Route) shareKey {
	k := shareKey{pool: route.Pool.Name()}
	if route.Pool.LeavesDirectly() {
		k.host = route.Target.Host
	}
	return k
}

// slot waits for a slot of k's share, until its context or the time ends. most
// and each are the limits now in force.
func (d *dialSlots) slot(k shareKey, most, each int) upstream.DialSlot {
	return func(ctx context.Context, until time.Time) (leave func(), err error) {
		leave = func() { d.release(k) }
		ready := d.request(k, most, each)
		if ready == nil {
			return leave, nil
		}
		ctx, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		start := time.Now()
		select {
		case <-ready:
			return leave, nil
		case <-ctx.Done():
		}
		used, granted := d.giveUp(k, ready)
		switch {
		case !errors.Is(ctx.Err(), context.Canceled) && granted:
			return leave, nil
		case granted:
			leave()
			return nil, ctx.Err()
		case errors.Is(ctx.Err(), context.Canceled):
			return nil, ctx.Err()
		}
		return nil, &failure.Error{
			Class: failure.Overload, RetryAfter: time.Second,
			Text: fmt.Sprintf("%d connections are being opened already, no slot came free in %.1f s", used, time.Since(start).Seconds()),
			Hint: "open fewer connections at once, or raise max_dials_per_host and max_dials",
		}
	}
}

// request takes a slot and returns nil, or joins the queue and returns a channel
// that is closed when there is one.
func (d *dialSlots) request(k shareKey, most, each int) (ready chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.most != most || d.each != each {
		d.most, d.each = most, each
		d.serve()
	}
	s := d.shares[k]
	if s == nil {
		s = &share{}
		d.shares[k] = s
	}
	if len(s.waiting) == 0 && d.hasRoom(s) {
		d.take(s)
		return nil
	}
	ready = make(chan struct{})
	d.last++
	s.waiting = append(s.waiting, slotWaiter{d.last, ready})
	return ready
}

func (d *dialSlots) hasRoom(s *share) bool { return s.used < min(d.each, d.most-d.used) }

func (d *dialSlots) take(s *share) {
	d.used++
	s.used++
}

// release gives a slot of k's share back.
func (d *dialSlots) release(k shareKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used--
	d.shares[k].used--
	d.serve()
	d.forget(k)
}

// giveUp takes a request out of the queue. It returns how many slots its
// share uses, and whether the request had got one at the last moment.
func (d *dialSlots) giveUp(k shareKey, ready chan struct{}) (used int, granted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.shares[k] // a request keeps it alive, waiting or with its slot
	i := slices.IndexFunc(s.waiting, func(w slotWaiter) bool { return w.ready == ready })
	if i < 0 {
		return s.used, true
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	used = d.used
	if s.used >= d.each {
		used = s.used
	}
	d.forget(k)
	return used, false
}

// serve gives out what is free: to the share that uses least, and among equals
// to the request that has waited longest.
func (d *dialSlots) serve() {
	for {
		var next *share
		for _, s := range d.shares {
			if len(s.waiting) == 0 || !d.hasRoom(s) {
				continue
			}
			if next == nil || s.used < next.used || s.used == next.used && s.waiting[0].ticket < next.waiting[0].ticket {
				next = s
			}
		}
		if next == nil {
			return
		}
		d.take(next)
		close(next.waiting[0].ready)
		next.waiting[0] = slotWaiter{}
		next.waiting = next.waiting[1:]
	}
}

// forget drops a share that uses nothing.
func (d *dialSlots) forget(k shareKey) {
	if s := d.shares[k]; s != nil && s.used == 0 && len(s.waiting) == 0 {
		delete(d.shares, k)
	}
}

// DialQueue is how many connections of a pool wait for a dial slot, and how many are
// being opened.
type DialQueue struct {
	Pool              string
	Waiting, Dialling int
}

// queues returns the pools of which some connections wait, by name.
func (d *dialSlots) queues() (list []DialQueue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	pools := map[string]DialQueue{}
	for k, s := range d.shares {
		q := pools[k.pool]
		pools[k.pool] = DialQueue{k.pool, q.Waiting + len(s.waiting), q.Dialling + s.used}
	}
	for _, q := range pools {
		if q.Waiting > 0 {
			list = append(list, q)
		}
	}
	slices.SortFunc(list, func(a, b DialQueue) int { return strings.Compare(a.Pool, b.Pool) })
	return list
}
