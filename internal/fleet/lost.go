package fleet

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"proxyd/internal/limit"
)

// askTime and askTimes are how long, and how often, Redis is asked after a loss whether
// it is there for others. Until then nothing is taken of budgets that are in demand.
const (
	askTime  = 150 * time.Millisecond
	askTimes = 2
)

// lose makes this process use its own share, from now on. questions are those that
// Redis has not answered.
func (f *Fleet) lose(err error, questions []question) {
	f.mu.Lock()
	f.state.Used, f.state.Since, f.state.Far = false, time.Now(), false
	f.state.Why, f.state.Advice = cause(err)
	f.waits = true
	asked := map[limit.Key]int{}
	for _, q := range append(questions[:len(questions):len(questions)], f.waiting...) {
		for _, a := range q.asks {
			for _, k := range a.Keys {
				asked[k]++
			}
		}
	}
	for _, e := range f.entries {
		e.alone, e.pressed = limit.Share{}, false
		if hosts := f.shareHosts(); hosts > 0 {
			l := e.inForce()
			e.pressed = l.Connects > 0 && asked[e.key] > max(0, l.Connects-e.used)/hosts ||
				l.MaxConnections > 0 && asked[e.key] > max(0, l.MaxConnections-e.total)/hosts
		}
	}
	f.mu.Unlock()
	f.o.Table.Reconsider()
}

// sinceLoss finds out what this process may use by itself. If Redis answers, only this
// process has lost it, or all of them for a moment: then Redis says what others have not
// been given, and keeps it free. If it does not, it is taken to be lost to all.
func (f *Fleet) sinceLoss(ctx context.Context) {
	f.mu.Lock()
	waits := f.waits
	f.mu.Unlock()
	for i := 0; waits && i < askTimes; i++ {
		err := f.hold(ctx, askTime)
		if err == nil || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	f.mu.Lock()
	f.waits = false
	for _, e := range f.entries {
		if e.alone.Wait {
			f.setAlone(e)
		}
	}
	f.mu.Unlock()
	f.o.Table.Reconsider()
}

// holdAgain keeps free what this process may use, and more of its share where the others
// have not had it.
func (f *Fleet) holdAgain(ctx context.Context) {
	_ = f.hold(ctx, connectTime) // else they keep it free for a while
	f.o.Table.Reconsider()
}

// hold has the others keep free what of this process' share they have not had, and takes
// over how much that is.
func (f *Fleet) hold(ctx context.Context, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	f.mu.Lock()
	now := time.Now()
	type part struct {
		exit    *exit
		entries []*entry
		keys    []string
		args    []any
		cmd     *redis.Cmd
	}
	var parts []*part
	for _, x := range f.exits {
		if f.retired || x.idle(now) {
			continue
		}
		prefix := f.prefix(x.name)
		p := &part{exit: x, keys: []string{prefix + "exit", prefix + "step", prefix + "lease", prefix + "hosts"}}
		p.args = []any{f.process, leaseTime.Microseconds(), max(1, f.shareHosts()), x.run}
		for _, e := range x.entries {
			if l := e.inForce(); l.IsSet() {
				p.entries = append(p.entries, e)
				p.keys = append(p.keys, prefix+"slots:"+e.name(), prefix+"open:"+e.name())
				p.args = append(p.args, l.Connects, l.Per.Microseconds(), l.MaxConnections, e.window(l.Per, now))
			}
		}
		parts = append(parts, p)
	}
	f.mu.Unlock()
	if len(parts) == 0 {
		return nil
	}
	err := f.pipe(ctx, func(eval evaluate) (list []*redis.Cmd) {
		for _, p := range parts {
			p.cmd = eval(holdScript, p.keys, p.args)
			list = append(list, p.cmd)
		}
		return list
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range parts {
		f.held(p.exit, p.entries, p.cmd.Val(), now)
	}
	return nil
}

// window returns how many slots of a window this process has.
func (e *entry) window(per time.Duration, now time.Time) (n int) {
	for _, at := range e.slots {
		if now.Sub(at) <= per {
			n++
		}
	}
	return n
}

// held takes over the answer to hold for one exit.
func (f *Fleet) held(x *exit, entries []*entry, v any, now time.Time) {
	rows, _ := v.([]any)
	if len(rows) != len(entries) || x.feeding || f.state.Used {
		return
	}
	f.round++
	for i, e := range entries {
		n, ok := numbers(rows[i], 2)
		if !ok || !e.alone.Alone {
			continue
		}
		l, s := e.inForce(), &e.alone
		s.Wait, s.Round, s.Hold = false, f.round, 0
		s.Kept, s.IsKept = int(n[0]), true
		s.First, s.Connections = max(0, s.Kept-e.window(l.Per, now)), e.open+int(n[1])
		s.Why = f.why(e, l, s)
	}
}
