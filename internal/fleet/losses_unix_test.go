//go:build !windows

package fleet

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

// stall passes on to a Redis. An answer that comes while it stands still waits.
type stall struct {
	url   string
	until atomic.Int64 // Unix time in ns
}

func newStall(t *testing.T, r *testkit.Redis) *stall {
	s := &stall{}
	s.url = "redis://" + testkit.NewTCP(t, func(c net.Conn) {
		to, err := net.Dial("tcp", r.Addr)
		if err != nil {
			return
		}
		defer to.Close()
		go func() { _, _ = io.Copy(to, c); _ = to.Close() }() // ends with c, and ends the loop
		buf := make([]byte, 1<<16)
		for {
			n, err := to.Read(buf)
			if err != nil {
				return
			}
			time.Sleep(time.Until(time.Unix(0, s.until.Load())))
			if _, err = c.Write(buf[:n]); err != nil {
				return
			}
		}
	}).Addr
	return s
}

func (s *stall) stop(d time.Duration) { s.until.Store(time.Now().Add(d).UnixNano()) }

// Promise (data path): hosts that share a budget never use more of it together when single ones of them lose Redis for a moment.
func TestSingleHostsThatLoseRedisExceedNothing(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	r.Settle("test")
	var stalls []*stall
	var members []*member
	for range 8 {
		s := newStall(t, r)
		stalls = append(stalls, s)
		members = append(members, newMember(t, s.url, window, func(o *Options) { o.Hosts = 8 }))
	}
	for _, m := range members {
		m.awaitShared(t)
	}
	losses := watchLosses(t, members)
	seen, stop := crowd(t, members, 60)
	ctx, cancel := context.WithTimeout(t.Context(), 5*window.Per)
	defer cancel()
	for ctx.Err() == nil { // most in demand is a window at its end
		time.Sleep(rand.N(400 * time.Millisecond))
		stalls[rand.N(len(stalls))].stop(60*time.Millisecond + rand.N(60*time.Millisecond))
	}
	stop()
	n, most := losses(), seen.most(window.Per)
	t.Logf("%d losses, at most %d in %s", n, most, window.Per)
	if n == 0 {
		t.Error("none has lost Redis")
	}
	if most > window.Connects {
		t.Errorf("%d in %s", most, window.Per)
	}
}

// One that alone loses Redis just when a window has room gets nothing of what the others then take.
func TestAHostThatLosesRedisWhileOthersTakeTheRest(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	r.Settle("test")
	l := limit.Limits{Connects: 40, Per: 3 * time.Second}
	s := newStall(t, r)
	alone := newMember(t, s.url, l, func(o *Options) { o.Hosts = 4 })
	other := newMember(t, r.URL(), l, func(o *Options) { o.Hosts = 4 })
	alone.awaitShared(t)
	other.awaitShared(t)
	takeAll := func(m *member) (n int) {
		for {
			g, err := m.take(t)
			if err != nil {
				return n
			}
			g.Settle()
			g.Release()
			n++
		}
	}
	if n := takeAll(other); n != l.Connects {
		t.Fatalf("%d of %d", n, l.Connects)
	}
	if n := takeAll(alone); n != 0 {
		t.Fatalf("%d of none", n)
	}
	testkit.Eventually(t, 2*l.Per, "all is free again, and it has heard so", func() bool { return alone.share().Used == 0 })
	s.stop(80 * time.Millisecond)
	first := 0
	for !alone.share().Alone {
		if g, err := alone.take(t); err == nil {
			g.Settle()
			g.Release()
			first++
		}
	}
	n := takeAll(other)
	end := time.Now().Add(l.Per / 2)
	for time.Now().Before(end) {
		if g, err := alone.take(t); err == nil {
			g.Settle()
			g.Release()
			first++
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%d by the others, %d by the one without Redis", n, first)
	if n+first > l.Connects {
		t.Errorf("%d and %d of %d", n, first, l.Connects)
	}
}

// What is kept free for a process that Redis hears nothing of ends 2 s after its last call; not so for one that keeps it.
func TestTheShareOfAProcessThatIsNotHeard(t *testing.T) {
	t.Parallel()
	for _, holds := range []bool{false, true} {
		r := testkit.StartRedis(t)
		lost, here := newProcess(t, r.URL()), newProcess(t, r.URL())
		l := limit.Limits{Connects: 8, Per: time.Minute}
		lost.Share(key, l)
		here.Share(key, l)
		lost.call(soon())
		for range 6 { // others call all the time
			time.Sleep(400 * time.Millisecond)
			here.call(soon())
			if holds {
				if err := lost.hold(t.Context(), time.Second); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, reply := here.call(soon())
		if got, want := reply.rows[0].used, map[bool]int{true: 2}[holds]; got != want {
			t.Errorf("%d are kept free, want %d; it says that it is there: %v", got, want, holds)
		}
	}
}
