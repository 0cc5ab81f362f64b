package daemon

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// everySecond runs the checks that are due each second, until ctx ends: one ticker
// for all of them. known are the upstreams as they were.
func (d *Daemon) everySecond(ctx context.Context, known *standings) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if d.sources.look(now); !d.upgrade.isReplaced() { // then the next process sees to the upstreams
				known.compare(d.snapshot.Load().Set().Upstreams())
			}
			d.reasons(d.snapshot.Load())
			if lines, due := d.lines.tryAgain(time.Now()); due {
				d.log().Warn("lines of the log were lost", zap.Int("lines", lines))
			}
		}
	}
}

// lastMinute counts what happened in the last minute. Safe for concurrent use.
type lastMinute struct {
	mu      sync.Mutex
	seconds [60]struct {
		second int64 // Unix time
		times  int
	}
	last time.Time
}

func (l *lastMinute) add(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.seconds[now.Unix()%60]
	if s.second != now.Unix() {
		s.second, s.times = now.Unix(), 0
	}
	s.times++
	l.last = now
}

// count returns how often it happened in the minute before now, and when last.
func (l *lastMinute) count(now time.Time) (times int, last time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.seconds {
		if now.Unix()-s.second < 60 {
			times += s.times
		}
	}
	return times, l.last
}
