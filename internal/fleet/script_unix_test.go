//go:build !windows

package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

// process is one that calls the script as the test says: it runs nothing of itself.
type process struct {
	*Fleet
	t *testing.T
}

func newProcess(t *testing.T, url string) *process {
	t.Helper()
	f, err := New(Options{URL: url, Name: "test", Host: "host", Hosts: 4, Table: limit.NewTable(nil)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.client.close() })
	p := &process{f, t}
	if _, err := f.probe(t.Context()); err != nil { // for its clock
		t.Fatal(err)
	}
	return p
}

// call calls the script once, with what the process has to say; asks need not be any.
func (p *process) call(until time.Time, asks ...limit.Ask) (c *call, r reply) {
	p.t.Helper()
	x := p.exitOf(key.Exit)
	c = p.newCall(x, []question{{asks: asks}}, until)
	err := p.pipe(p.t.Context(), func(eval evaluate) []*redis.Cmd {
		c.cmd = eval(callScript, c.keys, c.args)
		return []*redis.Cmd{c.cmd}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if r, err = c.parse(c.cmd.Val()); err != nil {
		p.t.Fatal(err)
	}
	if r.now > 0 {
		p.clock.heard(r.now, time.Now())
	}
	return c, r
}

func soon() time.Time { return time.Now().Add(time.Second) }

// say is Tell for one slot.
func (p *process) say(what int, id uint32, keys ...limit.Key) {
	p.Tell(limit.Note{What: what, ID: id, Keys: keys})
}

// model is what the script must do, by the times that it says.
type model struct {
	limits limit.Limits
	slots  map[string]int64 // by id: when the dial ends, in µs
	open   map[string]int   // by process
}

func (m *model) full(now int64) bool {
	used := 0
	for _, at := range m.slots {
		if max(at, -at) >= now-m.limits.Per.Microseconds() {
			used++
		}
	}
	total := 0
	for _, n := range m.open {
		total += n
	}
	return m.limits.Connects > 0 && used >= m.limits.Connects || m.limits.MaxConnections > 0 && total >= m.limits.MaxConnections
}

// Promise (data path): hosts that share budgets are granted, in any window and at any time, what the limits say, whatever the order of their calls.
func TestScriptGrantsWhatAModelGrants(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r.Do("FLUSHALL")
			modelRun(t, r.URL(), rand.New(rand.NewPCG(seed, 1)), 1500)
		})
	}
}

func modelRun(t *testing.T, url string, random *rand.Rand, steps int) {
	keys := []limit.Key{{Exchange: "binance", Kind: "websocket", Exit: key.Exit}, {Exchange: "okx", Kind: "http", Exit: key.Exit}, {Exit: key.Exit}}
	models := map[limit.Key]*model{
		keys[0]: {limits: limit.Limits{Connects: 5, Per: 40 * time.Millisecond}},
		keys[1]: {limits: limit.Limits{Connects: 3, Per: 90 * time.Millisecond, MaxConnections: 9}},
		keys[2]: {limits: limit.Limits{Connects: 6, Per: 60 * time.Millisecond, MaxConnections: 12}},
	}
	var all []*process
	for range 4 {
		p := newProcess(t, url)
		for _, k := range keys {
			models[k].slots, models[k].open = map[string]int64{}, map[string]int{}
			p.Share(k, models[k].limits)
		}
		all = append(all, p)
	}
	type held struct {
		p    *process
		id   uint32
		keys []limit.Key
		done bool // settled
	}
	var pending []*held
	next, grants := uint32(0), 0
	for step := range steps {
		p := all[random.IntN(len(all))]
		for range random.IntN(3) { // some of what it holds ends, and is said with its next call
			i := slices.IndexFunc(pending, func(h *held) bool { return h.p == p && random.IntN(2) == 0 })
			if i < 0 {
				break
			}
			h := pending[i]
			switch {
			case !h.done && random.IntN(3) == 0:
				p.say(limit.Unused, h.id, h.keys...)
				for _, k := range h.keys {
					delete(models[k].slots, p.slotID(h.id))
					models[k].open[p.process]--
				}
				pending = slices.Delete(pending, i, i+1)
			case !h.done:
				p.say(limit.Settled, h.id, h.keys...)
				h.done = true
				for _, k := range h.keys {
					models[k].slots[p.slotID(h.id)] *= -1 // its end is known at the next call
				}
			default:
				p.say(limit.Released, h.id, h.keys...)
				for _, k := range h.keys {
					models[k].open[p.process]--
				}
				pending = slices.Delete(pending, i, i+1)
			}
		}
		var asks []limit.Ask
		for range random.IntN(4) {
			next++
			need := [][]limit.Key{{keys[0], keys[2]}, {keys[1], keys[2]}, {keys[2]}, {keys[0]}}[random.IntN(4)]
			asks = append(asks, limit.Ask{ID: next, Keys: need, Dial: time.Duration(random.IntN(50)) * time.Millisecond})
		}
		c, reply := p.call(soon(), asks...)
		if reply.late || reply.feeding > 0 {
			t.Fatalf("step %d: %+v", step, reply)
		}
		for _, k := range keys { // what p has settled was so when the script ran
			for id, at := range models[k].slots {
				if at < 0 && id[:16] == p.id {
					models[k].slots[id] = min(-at, reply.now)
				}
			}
		}
		for i, a := range reply.answers {
			var full []limit.Key
			for _, k := range asks[i].Keys {
				if models[k].full(reply.now) {
					full = append(full, k)
				}
			}
			if a.Granted != (len(full) == 0) {
				t.Fatalf("step %d: ask %v: %+v, the model: full %v", step, asks[i].Keys, a, full)
			}
			if !a.Granted {
				if a.Full != full[0] {
					t.Fatalf("step %d: %v is full, not %v", step, full[0], a.Full)
				}
				continue
			}
			grants++
			for _, k := range asks[i].Keys {
				models[k].slots[p.slotID(asks[i].ID)] = reply.now + asks[i].Dial.Microseconds()
				models[k].open[p.process]++
			}
			pending = append(pending, &held{p: p, id: asks[i].ID, keys: asks[i].Keys})
		}
		p.take(c, reply, time.Now())
		if random.IntN(3) == 0 {
			time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
		}
	}
	if grants < 100 {
		t.Errorf("only %d grants in %d steps", grants, steps)
	}
}

func ask(id uint32, dial time.Duration, keys ...limit.Key) limit.Ask {
	return limit.Ask{ID: id, Keys: keys, Dial: dial}
}

func TestScriptTakesAllBudgetsOrNone(t *testing.T) {
	t.Parallel()
	p := newProcess(t, testkit.StartRedis(t).URL())
	wide, narrow := key, limit.Key{Exit: key.Exit}
	p.Share(wide, limit.Limits{Connects: 100, Per: time.Minute})
	p.Share(narrow, limit.Limits{Connects: 1, Per: time.Minute})
	_, r := p.call(soon(), ask(1, 0, wide, narrow), ask(2, 0, wide, narrow), ask(3, 0, wide))
	if a := r.answers; !a[0].Granted || a[1].Granted || a[1].Full != narrow || !a[2].Granted {
		t.Errorf("answers %+v", a)
	}
	if _, r = p.call(soon()); r.rows[0].used+r.rows[1].used != 3 {
		t.Errorf("used %+v, want 2 and 1", r.rows)
	}
}

func TestScriptGivesARepeatedCallTheSameAnswer(t *testing.T) {
	t.Parallel()
	p := newProcess(t, testkit.StartRedis(t).URL())
	p.Share(key, limit.Limits{Connects: 1, Per: time.Minute})
	for range 3 {
		if _, r := p.call(soon(), ask(7, 0, key)); !r.answers[0].Granted {
			t.Fatalf("answer %+v", r.answers[0])
		}
	}
	if _, r := p.call(soon(), ask(8, 0, key)); r.answers[0].Granted {
		t.Error("another one got the slot too")
	}
}

func TestScriptGrantsNothingLate(t *testing.T) {
	t.Parallel()
	p := newProcess(t, testkit.StartRedis(t).URL())
	p.Share(key, limit.Limits{Connects: 1, Per: time.Minute})
	if _, r := p.call(time.Now().Add(-time.Millisecond), ask(1, 0, key)); !r.late {
		t.Fatalf("reply %+v, want late", r)
	}
	if _, r := p.call(soon(), ask(2, 0, key)); !r.answers[0].Granted {
		t.Errorf("answer %+v: the late call has taken the slot", r.answers[0])
	}
}

func TestScriptCountsUnsettledAsOfItsDialDeadline(t *testing.T) {
	t.Parallel()
	p := newProcess(t, testkit.StartRedis(t).URL())
	p.Share(key, limit.Limits{Connects: 1, Per: 200 * time.Millisecond})
	_, first := p.call(soon(), ask(1, 150*time.Millisecond, key))
	for id := uint32(2); ; id++ {
		_, r := p.call(soon(), ask(id, 0, key))
		since := time.Duration(r.now-first.now) * time.Microsecond
		if granted := r.answers[0].Granted; granted != (since > 350*time.Millisecond) {
			t.Fatalf("%v after the grant: granted is %v", since, granted)
		} else if granted {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestScriptSettlesNoLaterThanTheDeadline(t *testing.T) {
	t.Parallel()
	p := newProcess(t, testkit.StartRedis(t).URL())
	p.Share(key, limit.Limits{Connects: 1, Per: 100 * time.Millisecond})
	c, first := p.call(soon(), ask(1, 10*time.Millisecond, key))
	p.take(c, first, time.Now())
	time.Sleep(60 * time.Millisecond)
	p.say(limit.Settled, 1, key) // long after the deadline, as when Redis stood still
	_, r := p.call(soon())
	for id := uint32(2); ; id++ {
		_, r = p.call(soon(), ask(id, 0, key))
		since := time.Duration(r.now-first.now) * time.Microsecond
		if granted := r.answers[0].Granted; granted != (since > 110*time.Millisecond) {
			t.Fatalf("%v after the grant: granted is %v", since, granted)
		} else if granted {
			return
		}
	}
}

func TestScriptGivesBackWhatADeadProcessHeld(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	dead, alive := newProcess(t, r.URL()), newProcess(t, r.URL())
	l := limit.Limits{MaxConnections: 2}
	dead.Share(key, l)
	alive.Share(key, l)
	_, first := dead.call(soon(), ask(1, 0, key), ask(2, 0, key))
	for id := uint32(1); ; id++ {
		_, r := alive.call(soon(), ask(id, 0, key))
		since := time.Duration(r.now-first.now) * time.Microsecond
		if granted := r.answers[0].Granted; granted != (since > leaseTime) {
			t.Fatalf("%v after its last call: granted is %v", since, granted)
		} else if granted {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A lease does not end while no process can call.
func TestScriptEndsNoLeaseAfterAStandstill(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	a, b := newProcess(t, r.URL()), newProcess(t, r.URL())
	l := limit.Limits{MaxConnections: 1}
	a.Share(key, l)
	b.Share(key, l)
	a.call(soon(), ask(1, 0, key))
	time.Sleep(leaseTime + 500*time.Millisecond)
	if _, r := b.call(soon(), ask(1, 0, key)); r.answers[0].Granted {
		t.Error("what the other process has open was given away")
	}
}

func TestScriptAppliesTheSmallestLimits(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	a, b := newProcess(t, r.URL()), newProcess(t, r.URL())
	a.Share(key, limit.Limits{Connects: 10, Per: time.Minute, MaxConnections: 3})
	b.Share(key, limit.Limits{Connects: 2, Per: 30 * time.Second, MaxConnections: 50})
	if _, r := a.call(soon()); r.rows[0].differ != 0 {
		t.Errorf("one host differs from none: %+v", r.rows[0])
	}
	_, reply := b.call(soon())
	want := row{connects: 2, per: 30 * time.Second, max: 3, differ: 1}
	if reply.rows[0] != want {
		t.Errorf("%+v, want %+v", reply.rows[0], want)
	}
	if _, reply = a.call(soon(), ask(1, 0, key), ask(2, 0, key), ask(3, 0, key)); reply.answers[2].Granted || !reply.answers[1].Granted {
		t.Errorf("answers %+v, want two slots", reply.answers)
	}
	a.Share(key, limit.Limits{Connects: 2, Per: 30 * time.Second, MaxConnections: 50}) // a reload
	time.Sleep(3*leaseTime + 100*time.Millisecond)
	if _, reply = a.call(soon()); reply.rows[0].differ != 0 || reply.rows[0].max != 50 {
		t.Errorf("after three leases: %+v", reply.rows[0])
	}
}

// What a process may use that has lost Redis is kept free for it.
func TestScriptKeepsFreeTheShareOfAProcessOutOfStep(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	lost, here := newProcess(t, r.URL()), newProcess(t, r.URL())
	l := limit.Limits{Connects: 8, Per: time.Minute, MaxConnections: 100}
	lost.Share(key, l)
	here.Share(key, l)
	lost.exitOf(key.Exit).used = time.Time{}
	lost.call(soon(), ask(1, 0, key))
	time.Sleep(inStepTime + 100*time.Millisecond)
	// Of four hosts: 2 are its share, of which it has one.
	var asks []limit.Ask
	for id := range uint32(8) {
		asks = append(asks, ask(id+1, 0, key))
	}
	_, reply := here.call(soon(), asks...)
	granted := 0
	for _, a := range reply.answers {
		if a.Granted {
			granted++
		}
	}
	if granted != 6 {
		t.Errorf("%d were granted of 8, where one is taken and one to be kept free", granted)
	}
	lost.call(soon())
	if _, reply = here.call(soon(), ask(20, 0, key)); !reply.answers[0].Granted {
		t.Error("it is kept free for one that is back")
	}
}

func TestScriptFeedsAnotherRedis(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	p := newProcess(t, r.URL())
	l := limit.Limits{Connects: 2, Per: time.Minute}
	p.Share(key, l)
	c, reply := p.call(soon(), ask(1, 0, key))
	if !reply.answers[0].Granted {
		t.Fatal("an exit that is new to all is not used at once")
	}
	p.heard(c, reply, time.Now())
	p.take(c, reply, time.Now())
	r.Kill()
	r.Start()
	start := time.Now()
	for id := uint32(2); ; id++ {
		c, reply = p.call(soon(), ask(id, 0, key))
		p.heard(c, reply, time.Now())
		if err := p.feed(t.Context()); err != nil {
			t.Fatal(err)
		}
		if reply.answers[0].Granted {
			break
		}
		if since := time.Since(start); !reply.answers[0].Alone || since > feedTime+time.Second {
			t.Fatalf("after %v: %+v", since, reply.answers[0])
		}
		time.Sleep(50 * time.Millisecond)
	}
	if since := time.Since(start); since < feedTime-100*time.Millisecond {
		t.Errorf("it grants after %v", since)
	}
	if _, reply = p.call(soon(), ask(900, 0, key)); reply.answers[0].Granted {
		t.Error("it does not know what was granted before")
	}
}
