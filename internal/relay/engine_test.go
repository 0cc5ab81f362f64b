package relay

import (
	"context"
	"net"
	"runtime/metrics"
	"slices"
	"testing"
	"time"
)

// TestWatchdogVerdict: what the watchdog makes of a row of looks, 5 s apart.
func TestWatchdogVerdict(t *testing.T) {
	type look struct {
		some    bool // in flight
		lastAck int  // seconds ago
		late    int  // seconds, as the process stood still
	}
	const never = -1
	for _, c := range []struct {
		name  string
		looks []look
		want  int // at which look it is called dead
	}{
		{"silent for hours", []look{{false, 3600, 0}, {false, 3605, 0}, {false, 3610, 0}, {false, 3615, 0}}, never},
		{"a busy feed", []look{{true, 0, 0}, {true, 0, 0}, {true, 0, 0}, {true, 0, 0}, {true, 0, 0}}, never},
		{"the first byte after a silence", []look{{false, 600, 0}, {true, 605, 0}, {false, 4, 0}, {false, 9, 0}}, never},
		{"a look at each first byte", []look{{true, 20, 0}, {false, 5, 0}, {false, 10, 0}, {false, 15, 0}, {true, 20, 0}, {false, 5, 0}}, never},
		{"the same, sent again and then answered", []look{{true, 600, 0}, {true, 605, 0}, {false, 1, 0}}, never},
		{"answered between looks, and more in flight", []look{{true, 60, 0}, {true, 3, 0}, {true, 8, 0}, {true, 2, 0}, {true, 7, 0}, {true, 12, 0}}, never},
		{"keepalive probes, answered", []look{{true, 15, 0}, {false, 5, 0}, {false, 10, 0}, {true, 15, 0}, {false, 5, 0}}, never},
		{"a closed window, probes answered 2 min apart", []look{{false, 110, 0}, {false, 115, 0}, {true, 120, 0}, {false, 5, 0}}, never},
		{"answered, and more in flight, while the process stood still", []look{{true, 1, 0}, {true, 19, 15}, {true, 1, 0}}, never},
		{"unanswered, not yet for so long", []look{{true, 5, 0}, {true, 10, 0}, {true, 15, 0}}, never},

		{"a feed, then nothing", []look{{true, 0, 0}, {true, 5, 0}, {true, 10, 0}, {true, 15, 0}, {true, 20, 0}}, 4},
		{"the same, looks fall otherwise", []look{{true, 0, 0}, {true, 4, 0}, {true, 9, 0}, {true, 14, 0}, {true, 19, 0}}, 4},
		{"a first byte after a silence, lost", []look{{false, 600, 0}, {true, 601, 0}, {true, 606, 0}, {true, 611, 0}}, 3},
		{"keepalive probes, lost", []look{{false, 12, 0}, {true, 17, 0}, {true, 22, 0}, {true, 27, 0}}, 3},
		{"well, then dead", []look{{true, 16, 0}, {false, 4, 0}, {true, 9, 0}, {true, 14, 0}, {true, 19, 0}}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, at := never, 100*time.Second
			var p inFlight
			for i, l := range c.looks {
				at += time.Duration(l.late) * time.Second
				if p.dead(path{inFlight: l.some, lastAck: time.Duration(l.lastAck) * time.Second}, at, 15*time.Second, 5*time.Second) {
					got = i
					break
				}
				at += 5 * time.Second
			}
			if got != c.want {
				t.Errorf("dead at look %d, want %d", got, c.want)
			}
		})
	}
}

// TestEngineKeepsNothingOfAnEndedFlow: of a flow that has ended, the engine
// keeps nothing. Its conns can be anything; one that cannot half-close is
// closed.
func TestEngineKeepsNothingOfAnEndedFlow(t *testing.T) {
	e := NewEngine()
	for _, o := range []Options{{}, {Idle: time.Hour}} {
		client, nearClient := net.Pipe()
		nearServer, server := net.Pipe()
		f := e.Start(nearClient, nearServer, nil, nil, o)
		if len(e.snapshot()) != 1 || (e.limited.Load() == 1) != (o.Idle > 0) {
			t.Errorf("%d flows, %d with limits", len(e.snapshot()), e.limited.Load())
		}
		_ = client.Close()
		if _, err := server.Read(make([]byte, 1)); err == nil {
			t.Error("the server sees no end")
		}
		f.Wait()
		_ = server.Close()
		if len(e.snapshot()) != 0 || e.limited.Load() != 0 {
			t.Errorf("%d flows, %d with limits, after the end", len(e.snapshot()), e.limited.Load())
		}
	}
}

// TestBurstIsOverWhenQuiet: memory is given back when many flows have come or
// gone and then none for a while; not sooner, and not again and again.
func TestBurstIsOverWhenQuiet(t *testing.T) {
	const some, many = burstSize/3 + 1, 2 * burstSize
	for _, c := range []struct {
		name    string
		changes []int64 // so many more at each look
		apart   time.Duration
		want    []int // the looks at which it is given back
	}{
		{"nothing", []int64{0, 0, 0, 0}, time.Hour, nil},
		{"few", []int64{some, 0, 0, 0}, time.Hour, nil},
		{"many", []int64{many, 0, 0, 0}, time.Second, []int{1}},
		{"many, for some time", []int64{many, many, 1, 0, 0}, time.Second, []int{3}},
		{"few again and again", []int64{some, 0, some, 0, some, 0, some, 0, some, 0, some, 0, some}, time.Hour, []int{5, 11}},
		{"many again, soon", []int64{many, 0, many, 0, 0, 0}, giveBackEvery / 4, []int{1, 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b burst
			var total int64
			var got []int
			for i, more := range c.changes {
				total += more
				if b.over(total, time.Duration(i+1)*c.apart) {
					got = append(got, i)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("given back at %d, want %d", got, c.want)
			}
		})
	}
}

// TestEngineGivesMemoryBack: it is the engine that sees to it.
func TestEngineGivesMemoryBack(t *testing.T) {
	e := NewEngine()
	e.Tick = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); _ = e.Run(ctx) }()
	forced := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/cycles/forced:gc-cycles"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	before := forced()
	for range burstSize/2 + 1 {
		client, nearClient := net.Pipe()
		nearServer, server := net.Pipe()
		f := e.Start(nearClient, nearServer, nil, nil, Options{})
		_, _ = client.Close(), server.Close()
		f.Wait()
	}
	for end := time.Now().Add(10 * time.Second); forced() == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no collection")
		}
	}
	cancel()
	<-over
}
