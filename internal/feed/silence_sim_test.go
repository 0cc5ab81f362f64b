package feed

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"proxyd/internal/config"
)

// shape says what an exchange sends in a second.
type shape func(r *rand.Rand, sec int) (bytes int64)

const day = 24 * 60 * 60

// poisson returns how many messages come in a second.
func poisson(r *rand.Rand, mean float64) (n int) {
	for p, limit := 1.0, math.Exp(-mean); ; n++ {
		if p *= r.Float64(); p < limit {
			return n
		}
	}
}

// messages sends so many messages a second, as they come, and a heartbeat of 60
// bytes each 20 s.
func messages(mean float64, size int64) shape {
	return func(r *rand.Rand, sec int) int64 {
		n := int64(poisson(r, mean)) * size
		if sec%20 == 0 {
			n += 60
		}
		return n
	}
}

// sun is how busy a second of the day is: a tenth at night.
func sun(sec int) float64 { return 0.55 - 0.45*math.Cos(2*math.Pi*float64(sec)/day) }

var shapes = []struct {
	name string
	send shape
	most int // false alarms in ten days
	find int // seconds until it is found out that the stream has died behind its heartbeats; 0: never
}{
	{"busy book: 20 messages a second", messages(20, 400), 0, 121},
	{"trades: 30 messages a minute", messages(0.5, 150), 0, 121},
	{"thin market: 6 messages a minute", messages(0.1, 150), 0, 0},
	{"options: a message in 3 minutes", messages(1./180, 300), 1, 0},
	{"a day and a night, book", func(r *rand.Rand, sec int) int64 { return messages(20*sun(sec), 400)(r, sec) }, 0, 121},
	{"a day and a night, trades", func(r *rand.Rand, sec int) int64 { return messages(0.5*sun(sec), 150)(r, sec) }, 0, 421},
	{"bursts of 10 s, five minutes apart", func(r *rand.Rand, sec int) int64 {
		if sec%300 < 10 {
			return messages(20, 400)(r, sec)
		}
		return 0
	}, 0, 0},
	{"bursts of 20 s, 90 s apart", func(r *rand.Rand, sec int) int64 {
		if sec%90 < 20 {
			return messages(20, 400)(r, sec)
		}
		return 0
	}, 0, 0},
	{"bursts at random, five minutes apart on average", func() shape {
		until := 0
		return func(r *rand.Rand, sec int) int64 {
			if sec < until-10 {
				until = 0 // a new run
			}
			if r.Float64() < 1./300 {
				until = sec + 10
			}
			if sec < until {
				return messages(20, 400)(r, sec)
			}
			return 0
		}
	}(), 1, 0},
	{"volatile: the rate doubles and halves each minute at random", func() shape {
		rate := 5.0
		return func(r *rand.Rand, sec int) int64 {
			if sec == 0 {
				rate = 5
			}
			if sec%60 == 0 {
				rate = min(50, max(0.5, rate*math.Exp2(r.Float64()*2-1)))
			}
			return messages(rate, 300)(r, sec)
		}
	}(), 0, 0},
	{"heartbeats only, each 20 s", messages(0, 0), 0, 0},
	{"heartbeats only, each 30 s", func(_ *rand.Rand, sec int) int64 {
		if sec%30 == 0 {
			return 60
		}
		return 0
	}, 0, 0},
	{"snapshots, one each second", func(*rand.Rand, int) int64 { return 5000 }, 0, 121},
}

// simulated is a feed with one tunnel.
func simulated(rule config.Silence, phase int) (*feedSilence, *tunnelSilence) {
	f := &feedSilence{rule: &rule}
	w := &tunnelSilence{}
	w.restart(f.rule, phase, false)
	f.learner.restart(0)
	return f, w
}

// pass is a second of a tunnel and its feed.
func pass(f *feedSilence, w *tunnelSilence, s Second) {
	f.reset()
	w.second(f, s)
	f.second()
}

// What is learned raises few false alarms over ten days of each shape of stream.
// None of them is a real market.
func TestSilenceFalseAlarms(t *testing.T) {
	t.Parallel()
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			tunnels, feeds, silent := 0, 0, 0
			for seed := range uint64(simulatedDays) {
				r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a simulation that repeats
				f, w := simulated(config.Silence{Mode: config.SilenceAuto}, int(seed)*7)
				was, had := false, false
				pass(f, w, Second{Up: 500})
				for sec := range day {
					pass(f, w, Second{Down: s.send(r, sec)})
					if w.silent() && !was {
						tunnels++
					}
					if f.state != "" && !had {
						feeds++
					}
					if w.silent() {
						silent++
					}
					was, had = w.silent(), f.state != ""
				}
			}
			t.Logf("in %d days: %d false alarms of the tunnel, %d of the feed, %d s in all", simulatedDays, tunnels, feeds, silent)
			if tunnels > s.most || feeds > s.most {
				t.Errorf("%d and %d false alarms, want at most %d", tunnels, feeds, s.most)
			}
		})
	}
}

// A stream that dies behind its heartbeats, or altogether, is found out.
func TestSilenceIsFound(t *testing.T) {
	t.Parallel()
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, beats := range []bool{true, false} {
				var all []int
				for seed := range uint64(2 * simulatedDays) {
					all = append(all, found(s.send, seed, beats))
				}
				name := "with heartbeats"
				if !beats {
					name = "without a byte"
				}
				t.Logf("%s: found after %s", name, times(all))
				for _, took := range all {
					if beats && s.find > 0 && took > s.find {
						t.Errorf("%s: after %d s, want %d", name, took, s.find)
					}
					if !beats && s.find > 0 && took > max(s.find, 61) {
						t.Errorf("%s: after %d s", name, took)
					}
				}
			}
		})
	}
}

// found returns after how many seconds it is found out that a stream died at the
// end of two hours and a half, or -1 if it is not within two hours.
func found(send shape, seed uint64, beats bool) int {
	r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a simulation that repeats
	f, w := simulated(config.Silence{Mode: config.SilenceAuto}, int(seed)*3)
	noon := day/2 - 9000
	for sec := range 9000 + int(seed)*7 {
		pass(f, w, Second{Down: send(r, noon+sec)})
	}
	for sec := range 7200 {
		down := int64(0)
		if beats && sec%20 == 0 {
			down = 60
		}
		pass(f, w, Second{Down: down})
		if w.silent() {
			return sec + 1
		}
	}
	return -1
}

func times(all []int) string {
	low, high, never := math.MaxInt, 0, 0
	for _, n := range all {
		if n < 0 {
			never++
			continue
		}
		low, high = min(low, n), max(high, n)
	}
	if never == len(all) {
		return "more than two hours"
	}
	text := fmt.Sprintf("%d to %d s", low, high)
	if never > 0 {
		text += fmt.Sprintf(", %d of %d not within two hours", never, len(all))
	}
	return text
}

// BenchmarkSilence is what a second costs for 10,000 tunnels that carry, in 50 feeds.
func BenchmarkSilence(b *testing.B) {
	for _, mode := range []config.Silence{{Mode: config.SilenceAuto}, fixed(time.Minute, 1000)} {
		b.Run(string(mode.Mode), func(b *testing.B) {
			feeds := make([]feedSilence, 50)
			all := make([]tunnelSilence, 10_000)
			for i := range all {
				f := &feeds[i%len(feeds)]
				f.rule = &mode
				all[i].restart(f.rule, i, false)
			}
			second := func(sec int) {
				for i := range all {
					all[i].second(&feeds[i%len(feeds)], Second{Down: int64(500 + (i+sec)%100)})
				}
				for i := range feeds {
					feeds[i].second()
					feeds[i].reset()
				}
			}
			for sec := range 4000 {
				second(sec)
			}
			for sec := 0; b.Loop(); sec++ {
				second(sec)
			}
		})
	}
}
