//go:build !windows

package fleet

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

// rest calls for an exit at rest.
func (p *process) rest(until time.Time) (c *call, r reply) {
	p.t.Helper()
	c = p.restCall(p.exitOf(key.Exit), until)
	err := p.pipe(p.t.Context(), func(eval evaluate) []*redis.Cmd {
		c.cmd = eval(c.script, c.keys, c.args)
		return []*redis.Cmd{c.cmd}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if r, err = c.parse(c.cmd.Val()); err != nil {
		p.t.Fatal(err)
	}
	return c, r
}

// all calls with all that there is to say, and takes over the answer.
func (p *process) all(asks ...limit.Ask) {
	p.t.Helper()
	c, r := p.call(soon(), asks...)
	p.run = r.run // as the registry has it
	p.heard(c, r, time.Now())
	p.take(c, r, time.Now())
}

// A process at rest hears what all have counted, and says all when that is needed.
func TestRestIsAnsweredWithWhatWasCountedLast(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	a, b := newProcess(t, r.URL()), newProcess(t, r.URL())
	l := limit.Limits{Connects: 10, Per: 48 * time.Hour, MaxConnections: 1_000_000}
	for _, p := range []*process{a, b} {
		p.Share(key, l)
		p.all()
	}
	b.all(limit.Ask{ID: 1, Keys: []limit.Key{key}}, limit.Ask{ID: 2, Keys: []limit.Key{key}})
	c, got := a.rest(soon())
	if got.full || len(got.rows) != 1 || got.rows[0] != (row{used: 2, open: 2, connects: 10, per: l.Per, max: l.MaxConnections}) {
		t.Fatalf("%+v", got)
	}
	if a.heard(c, got, time.Now()); a.entries[key].used != 2 || !a.atRest(a.exitOf(key.Exit), time.Now()) {
		t.Errorf("not at rest, or not heard: %+v", *a.entries[key])
	}
	full := func(what string, want bool) {
		t.Helper()
		if _, got := a.rest(soon()); got.full != want {
			t.Errorf("%s: all is to be said: %t", what, got.full)
		}
	}
	prefix := a.prefix(key.Exit)
	r.Do("ZADD", prefix+"step", "1", a.process)
	full("it is out of step", true)
	full("it is still out of step", true)
	a.all()
	full("it is in step again", false)
	r.Do("HSET", prefix+"exit", "feed", "9999999999999999")
	full("Redis is fed", true)
	r.Do("HSET", prefix+"exit", "feed", "0", "run", "0123")
	full("it is another Redis", true)
	r.Do("FLUSHALL")
	full("Redis is empty", true)
	a.all()
	r.Do("HSET", prefix+"exit", "feed", "0")
	a.all()
	full("it was said", false)
	r.Do("HDEL", prefix+"exit", "sum:binance/websocket")
	full("nothing was counted lately", true)
	a.all()
	l.Connects = 5
	if a.Share(key, l); a.atRest(a.exitOf(key.Exit), time.Now()) {
		t.Error("at rest with other limits")
	}
	full("others have counted with other limits", true)
}

// What Redis runs late does not say that a process lives: it may be using its share.
func TestRestThatRunsLateSaysNothing(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	p := newProcess(t, r.URL())
	p.Share(key, limit.Limits{Connects: 10, Per: time.Minute})
	p.all()
	before := r.Do("ZSCORE", p.prefix(key.Exit)+"step", p.process)
	if _, got := p.rest(time.Now().Add(-time.Second)); !got.late {
		t.Fatalf("%+v", got)
	}
	if after := r.Do("ZSCORE", p.prefix(key.Exit)+"step", p.process); after != before {
		t.Errorf("in step until %s, and then %s", before, after)
	}
}

// What thousands of hosts may use by themselves is kept free, at a cost that Redis can bear.
func TestScriptKeepsFreeWhatThousandsMayUse(t *testing.T) {
	t.Parallel()
	const lost = 2500
	r := testkit.StartRedis(t)
	p := newProcess(t, r.URL())
	p.Share(key, limit.Limits{Connects: 4 * lost, Per: time.Minute, MaxConnections: 2 * lost})
	p.all()
	ctx, prefix, end := t.Context(), p.prefix(key.Exit), float64(time.Now().Add(time.Minute).UnixMicro())
	pipe := p.client.pipeline()
	for i := range lost {
		name := fmt.Sprintf("host-%016x", i)
		pipe.ZAdd(ctx, prefix+"step", redis.Z{Score: 1, Member: name})
		pipe.ZAdd(ctx, prefix+"lease", redis.Z{Score: end, Member: name})
		pipe.HSet(ctx, prefix+"hosts", name, lost)
		pipe.ZAdd(ctx, prefix+"slots:binance/websocket", redis.Z{Score: float64(time.Now().UnixMicro()), Member: fmt.Sprintf("%016x:1", i)})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is kept free of connections stays so
		if _, got := p.call(soon()); got.rows[0].used != 4*lost || got.rows[0].open != 2*lost {
			t.Errorf("%+v", got.rows[0])
		}
	}
}
