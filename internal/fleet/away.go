package fleet

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// first looks for Redis at the start. If it answers quickly it is used at once.
func (f *Fleet) first(ctx context.Context) {
	for range quickCalls + 1 { // the first one connects
		took, err := f.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			f.report(err)
			return
		}
		if took < quickTime {
			continue
		}
		if took, err = f.probe(ctx); err == nil && took >= quickTime {
			f.far("it is farther away than 20 ms")
			return
		}
	}
	if err := f.comeBack(ctx); err != nil && ctx.Err() == nil {
		f.report(err)
	}
}

// report says why Redis is not used: what went wrong last.
func (f *Fleet) report(err error) {
	why, advice := cause(err)
	f.say(why, advice, false)
}

// far says that Redis is not used because it is too slow.
func (f *Fleet) far(why string) { f.say(why, adviceNear, true) }

func (f *Fleet) say(why, advice string, far bool) {
	f.mu.Lock()
	changed := f.state.Why != why || f.state.Far != far
	f.state.Why, f.state.Advice, f.state.Far = why, advice, far
	f.mu.Unlock()
	if changed {
		f.o.Table.Reconsider()
	}
}

// away looks for Redis until it can be used again, or ctx ends.
func (f *Fleet) away(ctx context.Context) {
	start, quick, probes := time.Now(), 0, 0
	f.mu.Lock()
	least := awayTime + f.spread() // all that have lost it come back, not all at once
	f.mu.Unlock()
	f.sinceLoss(ctx)
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.kick:
			f.giveUp(nil)
			continue
		case <-ticker.C:
		}
		took, err := f.probe(ctx)
		if probes++; err == nil && probes%2 == 1 {
			f.holdAgain(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			f.report(err)
			quick = 0
		case took >= quickTime:
			f.far(tooSlow)
			quick = 0
		default:
			quick++
		}
		if quick >= quickCalls && time.Since(start) >= least {
			err = f.comeBack(ctx)
			if err == nil || ctx.Err() != nil {
				return
			}
			f.report(err)
			quick = 0
		}
	}
}

// probe asks Redis for the time.
func (f *Fleet) probe(ctx context.Context) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	start := time.Now()
	p := f.client.pipeline()
	at := p.Time(ctx)
	_, err = p.Exec(ctx)
	now := time.Now()
	took = now.Sub(start)
	f.called(err == nil, took)
	if err == nil && !f.client.cluster {
		f.mu.Lock()
		f.clock.heard(at.Val().UnixMicro(), now)
		f.mu.Unlock()
	}
	return took, err
}

func (f *Fleet) called(ok bool, took time.Duration) {
	if f.o.Called != nil {
		f.o.Called(ok, took)
	}
}

// comeBack begins to use Redis. It is to know what this process holds before it grants
// anything: what is asked for meanwhile waits for the last call here.
func (f *Fleet) comeBack(ctx context.Context) error {
	if err := f.exchange(ctx, nil, nil, time.Now().Add(callTime), true); err != nil {
		return err
	}
	f.mu.Lock()
	f.joining = true
	for _, x := range f.exits {
		x.fed = false
	}
	f.mu.Unlock()
	err := f.feed(ctx)
	f.mu.Lock()
	f.joining = false
	before := f.state
	if err == nil {
		f.state = State{Used: true, Since: time.Now()}
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	f.o.Table.Reconsider()
	var calls []*call
	f.mu.Lock()
	until := time.Now().Add(callTime)
	for _, x := range f.exits {
		if !x.idle(time.Now()) {
			calls = append(calls, f.newCall(x, nil, until))
		}
	}
	f.mu.Unlock()
	if err = f.exchange(ctx, calls, nil, until, false); err == nil {
		err = f.feed(ctx)
	}
	if err != nil {
		f.mu.Lock()
		f.state, f.waits = before, true
		f.mu.Unlock()
		f.o.Table.Reconsider()
		f.giveUp(nil)
		f.sinceLoss(ctx)
	}
	return err
}

// mostFed is how many slots one call passes on.
const mostFed = 500

// feed passes on what this process holds to a Redis that may not know it.
func (f *Fleet) feed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	type part struct {
		key string
		per time.Duration
		ids []string
		at  []time.Time
	}
	var parts []part
	f.mu.Lock()
	for _, x := range f.exits {
		if x.fed {
			continue
		}
		x.fed = true
		for _, e := range x.entries {
			now := time.Now()
			p := part{key: f.prefix(x.name) + "slots:" + e.name(), per: max(e.limits.Per, e.force.Per)}
			for id, at := range e.slots {
				if now.Sub(at) > p.per {
					continue
				}
				p.ids, p.at = append(p.ids, id), append(p.at, at)
				if len(p.ids) == mostFed {
					parts = append(parts, p)
					p.ids, p.at = nil, nil
				}
			}
			if len(p.ids) > 0 {
				parts = append(parts, p)
			}
		}
	}
	f.mu.Unlock()
	for _, p := range parts {
		err := f.pipe(ctx, func(eval evaluate) []*redis.Cmd {
			args, now := []any{p.per.Microseconds()}, time.Now() // before Redis reads it: rather late than early
			for i := range p.ids {
				args = append(args, p.ids[i], now.Sub(p.at[i]).Microseconds())
			}
			return []*redis.Cmd{eval(feedScript, []string{p.key}, args)}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// leave takes this process out of the fleet, as far as Redis answers at once.
func (f *Fleet) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTime) // ctx has ended
	defer cancel()
	f.mu.Lock()
	f.retired, f.left = true, true
	var calls []*call
	for _, x := range f.exits {
		calls = append(calls, f.newCall(x, nil, time.Now().Add(callTime)))
	}
	f.mu.Unlock()
	_ = f.pipe(ctx, func(eval evaluate) (list []*redis.Cmd) { // else its lease ends by itself
		for _, c := range calls {
			list = append(list, eval(callScript, c.keys, c.args))
		}
		return append(list, f.beat(eval, true))
	})
}
