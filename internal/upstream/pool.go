package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"proxyd/internal/config"
)

// Pool is a choice among members.
type Pool struct {
	set      *Set
	name     string
	strategy config.Strategy
	members  []Member

	mu      sync.Mutex
	weights []int // of the smooth weighted round robin
}

// Member is an upstream in a pool.
type Member struct {
	*Upstream
	Weight, Tier int
	Enabled      bool
}

// Name is the pool's name or, for an inline one, its key path.
func (p *Pool) Name() string { return p.name }

// Members lists the members in the order of the file.
func (p *Pool) Members() []Member { return p.members }

// tier is the lowest tier with a member in use, 0 if there is none.
func (p *Pool) tier() (t int) {
	for i := range p.members {
		if m := &p.members[i]; m.Enabled && (t == 0 || m.Tier < t) {
			t = m.Tier
		}
	}
	return t
}

// pick chooses the first member by the pool's strategy, -1 if there is none.
func (p *Pool) pick() int {
	t := p.tier()
	best := -1
	switch {
	case t == 0:
		return -1
	case p.strategy == config.Failover || len(p.members) == 1:
		for i := range p.members {
			if p.members[i].Enabled && p.members[i].Tier == t {
				return i
			}
		}
	case p.strategy == config.Random:
		total := 0
		for i := range p.members {
			if m := &p.members[i]; m.Enabled && m.Tier == t {
				if total += m.Weight; rand.IntN(total) < m.Weight { //nolint:gosec // spreads load, guards nothing
					best = i
				}
			}
		}
		return best
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	total := 0
	for i := range p.members { // smooth weighted round robin, also among equally loaded members
		m := &p.members[i]
		if !m.Enabled || m.Tier != t {
			continue
		}
		total += m.Weight
		p.weights[i] += m.Weight
		if best < 0 || p.better(i, best) {
			best = i
		}
	}
	p.weights[best] -= total
	return best
}

func (p *Pool) better(i, best int) bool {
	if p.strategy == config.LeastConnections {
		a, b := p.members[i].Live()*int64(p.members[best].Weight), p.members[best].Live()*int64(p.members[i].Weight)
		if a != b {
			return a < b
		}
	}
	return p.weights[i] > p.weights[best]
}

// rest is who follows the first member after a failure: its own tier in turn,
// then the others.
func (p *Pool) rest(first int) (order []int) {
	for t := p.tier(); len(order) < len(p.members)-1 && t <= 100; t++ {
		for k := range p.members {
			i := (first + k) % len(p.members)
			if p.strategy == config.Failover {
				i = k
			}
			if m := &p.members[i]; i != first && m.Enabled && m.Tier == t {
				order = append(order, i)
			}
		}
	}
	return order
}

// leastLeft is what must be left of a budget for another attempt to begin.
const leastLeft = time.Second

// usable is how many members are in use.
func (p *Pool) usable() (n int) {
	for i := range p.members {
		if p.members[i].Enabled {
			n++
		}
	}
	return n
}

// walk tries members until one succeeds, inside the deadline.
func (p *Pool) walk(ctx context.Context, deadline time.Time, try func(ctx context.Context, u *Upstream) error) ([]Attempt, error) {
	at := p.pick()
	if at < 0 {
		return nil, &Error{Class: ClassNoUpstream, Text: "pool " + p.name + " has no member that is enabled", Hint: "enable one in the configuration", RetryAfter: 10 * time.Second}
	}
	var tried []Attempt
	var order []int
	for first := at; ; {
		start := time.Now()
		end := deadline
		// An attempt is cut short only for the sake of another one.
		others := len(order) > 0 || order == nil && p.usable() > 1
		if soon := start.Add(p.set.attempt); others && deadline.Sub(soon) >= leastLeft {
			end = soon
		}
		u := p.members[at].Upstream
		err := tryUntil(ctx, end, u, try)
		if err == nil {
			return tried, nil
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return tried, ctx.Err()
		}
		var e *Error
		if !errors.As(err, &e) {
			return tried, err
		}
		e.Upstream = u.name
		u.state.failed(e.Class)
		tried = append(tried, Attempt{u.name, e.Class, time.Since(start), e.Text})
		if order == nil {
			if order = p.rest(first); order == nil {
				order = []int{}
			}
		}
		if !p.goesOn(e) || len(order) == 0 || time.Until(deadline) < leastLeft {
			return tried, summed(e, tried)
		}
		at, order = order[0], order[1:]
	}
}

// tryUntil runs one attempt. Most need no timer beside the one that ctx has.
func tryUntil(ctx context.Context, end time.Time, u *Upstream, try func(context.Context, *Upstream) error) error {
	if have, ok := ctx.Deadline(); ok && !have.After(end) {
		return try(ctx, u)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return try(ctx, u)
}

// goesOn says whether the next member may do better.
func (p *Pool) goesOn(e *Error) bool {
	if e.final {
		return false
	}
	switch e.Class {
	case ClassDenied, ClassBadRequest:
		return false
	case ClassTargetRefused, ClassTargetUnreachable, ClassTargetDNS, ClassTargetTimeout:
		return e.Unsure || p.set.retryTarget
	}
	return true
}

// summed is the last attempt's error, whose text names those before it.
func summed(e *Error, tried []Attempt) *Error {
	e.Tried = tried
	if n := len(tried); n > 1 {
		var before []string
		for _, a := range tried[:n-1] {
			before = append(before, a.Upstream+" "+a.Text)
		}
		e.Text = e.Upstream + " " + e.Text + fmt.Sprintf("; before that: %s; %d tried", strings.Join(before, "; "), n)
	}
	if e.Hint == "" && (e.Class == ClassUpstreamTimeout || e.Class == ClassTargetTimeout) {
		e.Hint = "if it is only slow, raise timeout_seconds"
	}
	return e
}

// Dial opens a way to t through the first member that can, inside ctx's
// deadline. The error is an *Error, or ctx's when the caller gave up.
func (p *Pool) Dial(ctx context.Context, t Target) (*Way, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	var way *Way
	tried, err := p.walk(ctx, deadline, func(ctx context.Context, u *Upstream) (err error) {
		start := time.Now()
		if way, err = u.open(ctx, p.set, t); err == nil {
			way.Dial = time.Since(start)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	way.Tried = tried
	return way, nil
}
