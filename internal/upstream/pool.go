package upstream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"proxyd/internal/config"
)

// Pool is a choice among members.
type Pool struct {
	set        *Set
	name       string
	strategy   config.Strategy
	overHost   bool // what the hash strategy goes by: the host, else the exchange
	maxPercent int  // of the members may be ejected
	members    []Member
	seats      []seat
	views      atomic.Pointer[[]*view] // by a pair's number

	mu sync.Mutex // the seats' turns
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

// Dial opens a way to t through the first member that can, inside ctx's
// deadline. The error is an *Error, or ctx's when the caller gave up.
func (p *Pool) Dial(ctx context.Context, t Target) (*Way, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	var way *Way
	tried, err := p.walk(ctx, deadline, &t, func(ctx context.Context, m *Member) (err error) {
		way, err = m.dial(ctx, p.set, &t)
		return err
	})
	if err != nil {
		return nil, err
	}
	way.Tried = tried
	return way, nil
}

// dial opens a way that counts, where there is room for it.
func (m *Member) dial(ctx context.Context, s *Set, t *Target) (*Way, error) {
	m.state.dialling.Add(1)
	defer m.state.dialling.Add(-1)
	start := time.Now()
	leave, fail := s.enter(ctx, m, t)
	if fail != nil {
		return nil, fail
	}
	begin := start
	if leave != nil {
		begin = time.Now()
	}
	way, err := m.open(ctx, s, *t)
	if err != nil {
		if leave != nil {
			leave()
		}
		return nil, err
	}
	now := time.Now()
	way.Queued, way.Dial = begin.Sub(start), now.Sub(begin)
	m.opened(t, way.Dial, now)
	if m.state.marks.Load()&markPairs != 0 {
		m.allowed(t)
	}
	way.Release = m.count(t, way.Release)
	if leave != nil {
		way.Release = both(way.Release, leave)
	}
	return way, nil
}

// Room asks whether member m may make one more connection to t, and waits for
// that at most as long as ctx lasts; when it may not, the next member is tried.
// leave is called when the connection has failed or ended.
type Room func(ctx context.Context, m *Member, t *Target) (leave func(), full *Error)

// enter is where the budgets of new and open connections are asked: once for
// each connection that is about to be made.
func (s *Set) enter(ctx context.Context, m *Member, t *Target) (leave func(), full *Error) {
	if s.room == nil {
		return nil, nil
	}
	return s.room(ctx, m, t)
}
