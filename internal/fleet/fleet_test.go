package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"proxyd/internal/limit"
)

var key = limit.Key{Exchange: "binance", Kind: "websocket", Exit: "tokyo-1"}

// member is a process of a test: a table, and its part in the fleet.
type member struct {
	table  *limit.Table
	fleet  *Fleet
	budget *limit.Budget
	stop   func()
}

func newMember(t *testing.T, url string, l limit.Limits, change func(*Options)) *member {
	t.Helper()
	m := &member{table: limit.NewTable(nil)}
	l.Shared = true
	m.table.Configure(func(limit.Key) limit.Limits { return l })
	m.budget = m.table.Budget(key)
	o := Options{URL: url, Name: "test", Host: "host", Table: m.table}
	if change != nil {
		change(&o)
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	m.fleet = f
	m.stop = run(t, f)
	return m
}

// arrivals are what an exchange sees.
type arrivals struct {
	mu sync.Mutex
	at []time.Time
}

func (a *arrivals) add() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}

// most returns the most arrivals in any window.
func (a *arrivals) most(per time.Duration) (most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.at, time.Time.Compare)
	first := 0
	for i := range a.at {
		for a.at[i].Sub(a.at[first]) > per {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// connect connects again and again until ctx ends: a connection that closes at once.
func (m *member) connect(ctx context.Context, a *arrivals) {
	for ctx.Err() == nil {
		dial, cancel := context.WithTimeout(ctx, 4*time.Second)
		g, err := m.table.Acquire(dial, time.Minute, []*limit.Budget{m.budget})
		cancel()
		if err == nil {
			a.add()
			g.Settle()
			g.Release()
			continue
		}
		if full := (*limit.Full)(nil); errors.As(err, &full) {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func TestEightProcessesShareAWindow(t *testing.T) {
	r := startRedis(t)
	const limitOf, per, lasts = 60, time.Second, 12 * time.Second
	var members []*member
	for i := range 8 {
		members = append(members, newMember(t, r.url(), limit.Limits{Connects: limitOf, Per: per, Queue: time.Minute, Jitter: 6 * time.Second}, func(o *Options) {
			o.Host, o.Hosts = fmt.Sprint("host", i), 8
		}))
	}
	time.Sleep(feedTime + 1500*time.Millisecond)
	var seen arrivals
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var all sync.WaitGroup
	for _, m := range members {
		for range 50 {
			all.Go(func() { m.connect(ctx, &seen) })
		}
	}
	all.Wait()
	most, rate := seen.most(per), float64(len(seen.at))/(limitOf*(lasts/per).Seconds()*1)
	t.Logf("%d arrivals, at most %d in %s, states %v", len(seen.at), most, per, members[0].fleet.State())
	_ = rate
	if most > limitOf {
		t.Errorf("%d in a window of %d", most, limitOf)
	}
}
