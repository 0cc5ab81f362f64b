package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"proxyd/internal/limit"
)

// errLate is the error of a call that Redis has run too late.
var errLate = errors.New("it ran a call later than 50 ms")

// errLeft is why a process that ends does not use Redis.
var errLeft = errors.New("this process leaves the fleet")

// together asks Redis until a call fails, or ctx ends. One call at a time is
// sent, for all exits: what is said is heard in its order, and what waits meanwhile
// goes together.
func (f *Fleet) together(ctx context.Context) {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for beats := 0; ; {
		due, active := false, false
		fed := f.fedTimer()
		select {
		case <-ctx.Done():
			return
		case <-f.kick:
		case <-fed:
		case <-beat.C:
			beats++
			due, active = beats%beatAll == 0, true
		}
		calls, questions, until := f.collect(due, active)
		if len(calls) == 0 && !due {
			continue
		}
		err := f.exchange(ctx, calls, questions, until, due)
		if ctx.Err() != nil {
			f.giveUp(questions)
			return
		}
		if err == nil {
			err = f.feed(ctx)
			questions = nil // answered
		}
		if err != nil {
			f.lose(err, questions)
			f.giveUp(questions)
			return
		}
	}
}

// fedTimer returns a channel that fires when the first of the exits that are fed may be
// used, nil if none is.
func (f *Fleet) fedTimer() <-chan time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	var first time.Time
	for _, x := range f.exits {
		if x.feeding && (first.IsZero() || x.fedAt.Before(first)) {
			first = x.fedAt
		}
	}
	if first.IsZero() {
		return nil
	}
	return time.After(time.Until(first) + time.Millisecond)
}

// collect takes what waits: calls for the exits that have something to say or to ask;
// with active for those that are in use, and with due for all that count anything. until
// is when the answers must be here.
func (f *Fleet) collect(due, active bool) (calls []*call, questions []question, until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	until = now.Add(callTime)
	questions, f.waiting = f.waiting, nil
	of := map[*exit][]question{}
	number := map[*exit][]int{}
	crowd := f.crowd(now)
	for i, q := range questions {
		if end := q.at.Add(callTime); end.Before(until) {
			until = end
		}
		x := f.exitOf(q.asks[0].Keys[0].Exit)
		x.used = now
		of[x] = append(of[x], q)
		number[x] = append(number[x], i)
	}
	for _, x := range f.exits {
		beat := due && !x.idle(now) || active && crowd <= smallCrowd && now.Sub(x.used) < activeTime || x.feeding && now.After(x.fedAt)
		if of[x] == nil && !x.dirty && !beat {
			continue
		}
		if of[x] == nil && f.atRest(x, now) {
			calls = append(calls, f.restCall(x, until))
			continue
		}
		c := f.newCall(x, of[x], until)
		for i := range c.from {
			c.from[i] = number[x][c.from[i]]
		}
		calls = append(calls, c)
	}
	return calls, questions, until
}

// idle reports whether nothing of x counts anywhere.
func (x *exit) idle(now time.Time) bool {
	rest := restTime
	for _, e := range x.entries {
		if e.open > 0 {
			return false
		}
		rest = max(rest, e.limits.Per)
	}
	return now.Sub(x.used) > rest
}

// exchange sends calls and acts on the answers.
func (f *Fleet) exchange(ctx context.Context, calls []*call, questions []question, until time.Time, beat bool) error {
	start := time.Now()
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var life *redis.Cmd
	err := f.pipe(ctx, func(eval evaluate) (list []*redis.Cmd) {
		if beat {
			life = f.beat(eval, false)
			list = append(list, life)
		}
		for _, c := range calls {
			c.cmd = eval(c.script, c.keys, c.args)
			list = append(list, c.cmd)
		}
		return list
	})
	took := time.Since(start)
	if err != nil {
		f.called(false, took)
		return err
	}
	return f.apply(calls, questions, life, took)
}

// evaluate adds the call of a script to a pipeline.
type evaluate func(s script, keys []string, args []any) *redis.Cmd

// pipe runs commands in one pipeline; once more with the scripts' text where Redis does
// not know them.
func (f *Fleet) pipe(ctx context.Context, fill func(evaluate) []*redis.Cmd) error {
	for _, byText := range []bool{false, true} {
		p := f.client.pipeline()
		list := fill(func(s script, keys []string, args []any) *redis.Cmd {
			if byText {
				return p.Eval(ctx, s.text, keys, args...)
			}
			return p.EvalSha(ctx, s.sha, keys, args...)
		})
		_, err := p.Exec(ctx)
		unknown := false
		for _, cmd := range list {
			unknown = unknown || cmd.Err() != nil && strings.HasPrefix(cmd.Err().Error(), "NOSCRIPT")
		}
		if !unknown || byText {
			return err
		}
	}
	return nil
}

// apply acts on the answers to calls. The error says that Redis is not to be used.
func (f *Fleet) apply(calls []*call, questions []question, life *redis.Cmd, took time.Duration) error {
	now := time.Now()
	answers := make([][]limit.Answer, len(questions))
	f.mu.Lock()
	changed, err := false, error(nil)
	var replies []reply
	if life != nil {
		err = f.lived(life.Val(), now)
	}
	crowd := f.crowd(now)
	for _, c := range calls {
		r, parsed := c.parse(c.cmd.Val())
		if parsed != nil || r.late {
			if err = parsed; err == nil {
				f.clock.reset()
				err = errLate
			}
			continue
		}
		f.clock.heard(r.now, now)
		if r.full {
			c.exit.dirty = true
			f.wake()
		} else {
			changed = f.heard(c, r, now) || changed
		}
		replies = append(replies, r)
		for i, a := range r.answers {
			a.Again = f.again(a, crowd)
			if e := f.entries[a.Full]; e != nil && !a.Granted && !a.Alone {
				e.fullAt = now
			}
			answers[c.from[i]] = append(answers[c.from[i]], a)
		}
	}
	if err == nil { // else the slots stay unused, and count until their dial would have ended
		for i, c := range calls {
			f.take(c, replies[i], now)
		}
	}
	f.mu.Unlock()
	f.called(err == nil, took)
	if err != nil {
		return err
	}
	if changed {
		f.o.Table.Reconsider()
	}
	for i, q := range questions {
		q.done(answers[i])
	}
	return nil
}

// again returns when to ask again that found no room: when a window has some, or in a
// while; not all at the same moment. A large crowd asks less often, as each call takes
// Redis about 0.1 ms.
func (f *Fleet) again(a limit.Answer, crowd int) time.Duration {
	const each, soon, late, most = 200 * time.Microsecond, 100 * time.Millisecond, time.Second, 5 * time.Second
	spread := min(time.Duration(crowd)*each, most)
	wait := a.RetryAfter
	if wait <= 0 {
		wait = max(soon, spread)
	}
	return max(time.Millisecond, min(wait, late+spread)) + rand.N(5*time.Millisecond+spread) //nolint:gosec // spreads load, guards nothing
}

// heard takes over what Redis says of an exit. changed: its budgets are shared
// otherwise than before.
func (f *Fleet) heard(c *call, r reply, now time.Time) (changed bool) {
	x := c.exit
	feeding := r.feeding > 0
	changed = x.feeding != feeding
	x.fedAt = now.Add(r.feeding + time.Millisecond + f.spread())
	if c.script != restScript {
		x.full, x.hosts = now, c.hosts
	}
	if feeding && (changed || x.run != r.run) {
		x.fed = false
	}
	x.feeding, x.run = feeding, r.run
	for i, e := range c.entries {
		w := r.rows[i]
		if !feeding { // else not all is known there
			e.heard, e.used, e.total = now, w.used, w.open
		}
		force := limit.Limits{Connects: w.connects, Per: w.per, MaxConnections: w.max}
		if force != e.force {
			e.force, changed = force, true
		}
		e.differs = w.differ > 0
	}
	return changed
}

// take notes the slots that were granted to this process.
func (f *Fleet) take(c *call, r reply, now time.Time) {
	for i, a := range r.answers {
		if !a.Granted {
			continue
		}
		for _, k := range c.asks[i].Keys {
			e := f.entries[k]
			e.open++
			e.slots[f.slotID(c.asks[i].ID)] = now.Add(c.asks[i].Dial)
			e.clean(now)
		}
	}
}

// disown has Redis forget, when it is heard again, what it may have granted unheard.
func (f *Fleet) disown(questions []question) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, q := range questions {
		for _, a := range q.asks {
			for _, k := range a.Keys {
				if e := f.entries[k]; e != nil {
					e.say("u", f.slotID(a.ID))
				}
			}
		}
	}
}

// giveUp answers questions: Redis cannot.
func (f *Fleet) giveUp(questions []question) {
	f.mu.Lock()
	questions = append(questions, f.waiting...)
	f.waiting = nil
	f.mu.Unlock()
	f.disown(questions)
	for _, q := range questions {
		answers := make([]limit.Answer, len(q.asks))
		for i := range answers {
			answers[i].Alone = true
		}
		q.done(answers)
	}
}
