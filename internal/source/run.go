package source

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"proxyd/internal/config"
)

const (
	soonAfter   = 60 * time.Second // a list that is known is fetched at a random time of this after the start
	firstPause  = 5 * time.Second  // after the first failure; then twice as long each time
	longestWait = 5 * time.Minute  // or the refresh time, whichever is less
)

// pauseAfter returns how long to wait after so many failures in a row. A random part is
// left out, so that many hosts do not fetch at the same time.
func pauseAfter(refresh time.Duration, failures int) time.Duration {
	if failures == 0 {
		return refresh - part(refresh/5)
	}
	pause := min(firstPause<<min(failures-1, 10), longestWait, refresh)
	return pause - part(pause/2)
}

// part returns a random part of d.
func part(d time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(d) + 1)) //nolint:gosec // spreads load, guards nothing
}

// plan returns which lists are due, and when the next one is: zero for never.
func (l *Lists) plan(now time.Time) (due []*config.ListSource, next time.Time) {
	for _, s := range l.o.Sources() {
		l.mu.Lock()
		e := l.entry(s)
		if e.due.IsZero() {
			if e.due = now; e.good.Text != nil {
				e.due = now.Add(part(min(soonAfter, s.Refresh)))
			}
		}
		at := e.due
		l.mu.Unlock()
		switch {
		case !at.After(now):
			due = append(due, s)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	return due, next
}

// Run fetches each list when it is due, until ctx ends, and waits for what it has begun.
func (l *Lists) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
		due, next := l.plan(time.Now())
		if len(due) > 0 {
			l.update(ctx, due)
			_, next = l.plan(time.Now())
			if next.IsZero() {
				next = time.Now()
			}
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// update fetches some lists at the same time, and applies what is new.
func (l *Lists) update(ctx context.Context, due []*config.ListSource) {
	var all sync.WaitGroup
	for _, s := range due {
		all.Go(func() { // ends within fetchTimeout, and what Apply takes
			fresh, _ := l.Refresh(ctx, l.o.Set(), []*config.ListSource{s}, false)
			if len(fresh) == 0 || ctx.Err() != nil {
				return
			}
			if err := l.o.Apply(fresh); err != nil && ctx.Err() == nil {
				l.Failed(s, err)
			}
		})
	}
	all.Wait()
}
