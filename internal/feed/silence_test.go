package feed

import (
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

// after runs a tunnel for at most so many seconds, the same each second, until done
// says so, and returns how many it took; -1 if it never did.
func after(f *feedSilence, w *tunnelSilence, most int, s func(sec int) Second, done func() bool) int {
	for sec := range most {
		pass(f, w, s(sec))
		if done() {
			return sec + 1
		}
	}
	return -1
}

func always(s Second) func(int) Second { return func(int) Second { return s } }

func fixed(window time.Duration, bytes int64) config.Silence {
	return config.Silence{Mode: config.SilenceFixed, Window: window, Bytes: bytes}
}

// A window holds to the second: a tunnel is silent when fewer bytes than written
// have come in it, and not before it has passed.
func TestFixedWindowHoldsToTheSecond(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		rule         config.Silence
		before, then int64 // bytes in a second
		begins       int   // after the change
		latest       int
	}{
		{"a minute", fixed(time.Minute, 1000), 100, 0, 51, 51}, // 9 s of 100 bytes are left in the window
		{"heartbeats", fixed(time.Minute, 1000), 100, 3, 52, 52},
		{"enough", fixed(time.Minute, 1000), 100, 17, -1, -1},
		{"five seconds", fixed(5*time.Second, 1), 100, 0, 5, 5},
		{"a fraction", fixed(10500*time.Millisecond, 1), 100, 0, 11, 11},
		{"ten minutes", fixed(10*time.Minute, 1), 100, 0, 600, 610},
		{"a day", fixed(24*time.Hour, 1), 100, 0, 86400, 86400 + 1440},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, w := simulated(c.rule, 5)
			if n := after(f, w, 2*int(c.rule.Window.Seconds()), always(Second{Down: c.before}), w.silent); n >= 0 {
				t.Fatalf("silent after %d s with traffic", n)
			}
			got := after(f, w, 90000, always(Second{Down: c.then}), w.silent)
			if got < c.begins || got > c.latest {
				t.Fatalf("silent after %d s, want %d to %d", got, c.begins, c.latest)
			}
			if got < 0 {
				return
			}
			if n := after(f, w, 3, always(Second{Down: c.rule.Bytes}), func() bool { return !w.silent() }); n != 1 {
				t.Errorf("a window's bytes ended it after %d s", n)
			}
		})
	}
}

// A tunnel that opened and carried nothing is silent once its window has passed.
func TestFixedSilenceOfNewTunnel(t *testing.T) {
	t.Parallel()
	f, w := simulated(fixed(20*time.Second, 10), 0)
	if n := after(f, w, 100, always(Second{}), w.silent); n != 20 {
		t.Errorf("silent after %d s, want 20", n)
	}
	if f.state != ruleFixed || f.silent != 1 {
		t.Errorf("the feed is %q with %d silent tunnels", f.state, f.silent)
	}
}

// A tunnel that opens and stays dead behind its heartbeats never began, if others of
// the feed carry; the client's own heartbeats are no requests.
func TestSilenceThatNeverBegan(t *testing.T) {
	t.Parallel()
	heartbeats := func(sec int) (s Second) {
		switch {
		case sec == 0:
			s.Up, s.Down = 800, 5000 // handshakes
		case sec == 1:
			s.Up, s.Down = 300, 150 // subscribes
		case sec%15 == 0:
			s.Up, s.Down = 60, 60
		}
		return s
	}
	live := func(sec int) (s Second) {
		s = heartbeats(sec)
		s.Down += 1000
		return s
	}
	quietly := func(sec int) Second { return heartbeats(sec + 2) }
	for _, c := range []struct {
		name  string
		usual int64
		send  func(int) Second
		at    int
	}{
		{"others carry", 60_000, heartbeats, 62},
		{"others carry little", 4000, heartbeats, -1},
		{"nothing is known of others", 0, heartbeats, -1},
		{"it carries", 60_000, live, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, w := simulated(config.Silence{Mode: config.SilenceAuto}, 0)
			f.sibling = c.usual
			if n := after(f, w, 900, c.send, w.silent); n != c.at {
				t.Fatalf("silent after %d s, want %d", n, c.at)
			}
			if c.at > 0 && w.state != ruleNever {
				t.Errorf("by %q", w.state)
			}
			if c.at < 0 {
				return
			}
			if n := after(f, w, 7200, quietly, func() bool { return !w.silent() }); n >= 0 {
				t.Errorf("heartbeats ended it after %d s", n)
			}
			if n := after(f, w, 100, func(sec int) Second { return live(sec + 2) }, func() bool { return !w.silent() }); n < 1 || n > 3 {
				t.Errorf("traffic ended it after %d s", n)
			}
		})
	}
}

// A client that does not read is no silence of the exchange, whatever was learned,
// and nothing is learned from it.
func TestClientThatDoesNotReadIsNoSilence(t *testing.T) {
	t.Parallel()
	for _, rule := range []config.Silence{{Mode: config.SilenceAuto}, fixed(time.Minute, 10)} {
		f, w := simulated(rule, 0)
		after(f, w, 3600, always(Second{Down: 1000}), func() bool { return false })
		if n := after(f, w, 3600, always(Second{ClientStalled: true}), w.silent); n >= 0 {
			t.Errorf("silent after %d s", n)
		}
		if f.unread != 1 {
			t.Errorf("%d events that it does not read", f.unread)
		}
		if n := after(f, w, 600, always(Second{Down: 1000}), w.silent); n >= 0 {
			t.Errorf("silent %d s after it reads again", n)
		}
	}
}

// What is half closed, moves, drains or is switched off is not silent.
func TestUnwatchedTunnelsAreNotSilent(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]Second{"half closed": {HalfClosed: true}, "moving": {Moving: true}, "draining": {Draining: true}} {
		f, w := simulated(fixed(10*time.Second, 10), 0)
		if n := after(f, w, 100, always(s), w.silent); n >= 0 || f.watched != 0 {
			t.Errorf("%s: silent after %d s, %d watched", name, n, f.watched)
		}
	}
	f, w := simulated(config.Silence{Mode: config.SilenceOff}, 0)
	if n := after(f, w, 100, always(Second{}), w.silent); n >= 0 {
		t.Errorf("off: silent after %d s", n)
	}
	f, w = simulated(fixed(10*time.Second, 10), 0)
	f.draining = true
	if n := after(f, w, 100, always(Second{}), w.silent); n >= 0 || f.watched != 0 {
		t.Errorf("its upstream drains: silent after %d s, %d watched", n, f.watched)
	}
}

// On a host that serves both kinds, a tunnel is watched from when the exchange keeps
// sending unasked, until the client sends.
func TestMixedHostIsWatchedWhileItStreams(t *testing.T) {
	t.Parallel()
	rule := fixed(20*time.Second, 10)
	f := &feedSilence{rule: &rule}
	w := &tunnelSilence{}
	w.restart(f.rule, 0, true)
	polls := func(sec int) (s Second) { // a kept REST connection
		if sec%40 == 0 {
			s.Up, s.Down = 500, 9000
		}
		return s
	}
	if n := after(f, w, 4000, polls, func() bool { return f.watched > 0 }); n >= 0 {
		t.Fatalf("a kept connection is watched after %d s", n)
	}
	if n := after(f, w, 200, always(Second{Down: 500}), func() bool { return f.watched > 0 }); n < 30 || n > 61 {
		t.Fatalf("a stream is watched after %d s", n)
	}
	if n := after(f, w, 100, always(Second{}), w.silent); n < 19 || n > 21 {
		t.Errorf("it is silent after %d s", n)
	}
	pass(f, w, Second{Up: 200})
	if w.silent() || f.watched > 0 {
		t.Error("it is watched though the client has asked")
	}
	for every, want := range map[int]bool{2: true, 3: false} { // bytes in 30 and in 20 of 60 seconds
		pass(f, w, Second{Up: 200})
		n := after(f, w, 300, func(sec int) (s Second) {
			if sec%every == 0 {
				s.Down = 500
			}
			return s
		}, func() bool { return f.watched > 0 })
		if n >= 0 != want {
			t.Errorf("bytes each %d s: watched after %d s", every, n)
		}
	}
}

// A feed is silent together when no tunnel of it lives long enough to be judged.
func TestFeedOfShortTunnelsFallsSilent(t *testing.T) {
	t.Parallel()
	rule := config.Silence{Mode: config.SilenceAuto}
	f := &feedSilence{rule: &rule}
	began := -1
	for sec := range 4000 {
		f.reset()
		down := int64(1000)
		if sec >= 3600 {
			down = 0
		}
		var w tunnelSilence // a client that reconnects each half minute
		w.restart(f.rule, 0, false)
		w.clock = uint32(settleTime + sec%30) //nolint:gosec // small
		w.second(f, Second{Down: down})
		if f.second(); f.state != "" && began < 0 {
			began = sec - 3600
		}
	}
	if began < 29 || began > 60 {
		t.Errorf("silent after %d s", began)
	}
}

// A client that closes most of its tunnels, the busy ones among them, makes no
// silence.
func TestClosedTunnelsAreNoSilence(t *testing.T) {
	t.Parallel()
	rule := config.Silence{Mode: config.SilenceAuto}
	f := &feedSilence{rule: &rule}
	all := make([]tunnelSilence, 40)
	for i := range all {
		all[i].restart(f.rule, i, false)
	}
	for sec := range 9000 {
		f.reset()
		open := all
		if sec > 7200 {
			open = all[:1] // it carries a thousandth of the feed
		}
		for i := range open {
			down := int64(10_000)
			if i == 0 {
				down = 200
			}
			open[i].second(f, Second{Down: down})
		}
		if f.second(); f.state != "" || f.began > 0 {
			t.Fatalf("after %d s: %q, %d tunnels", sec, f.state, f.began)
		}
	}
}

// Whom a silence blames follows from what else is silent.
func TestBlameFollowsFromWhatElseIsSilent(t *testing.T) {
	t.Parallel()
	type row struct {
		exchange, upstream string
		silent             bool
	}
	for _, c := range []struct {
		name      string
		rows      []row
		who, text string
	}{
		{"alone", []row{{"okx", "tokyo-1", true}}, blameUnknown, "cannot tell okx from tokyo-1"},
		{"another upstream goes on", []row{{"okx", "tokyo-1", true}, {"okx", "tokyo-2", false}}, blameUpstream, "okx through tokyo-2 goes on: tokyo-1"},
		{"all through the upstream", []row{{"okx", "tokyo-1", true}, {"kraken", "tokyo-1", true}, {"bybit", "fra-1", false}}, blameUpstream, "all feeds through tokyo-1"},
		{"all through the upstream, and others of theirs go on", []row{{"okx", "tokyo-1", true}, {"kraken", "tokyo-1", true}, {"okx", "fra-1", false}, {"kraken", "fra-1", false}}, blameUpstream, "all feeds through tokyo-1 are silent: tokyo-1"},
		{"all of the exchange", []row{{"okx", "tokyo-1", true}, {"okx", "tokyo-2", true}, {"kraken", "tokyo-1", false}, {"bybit", "fra-1", false}}, blameExchange, "silent through 2 upstreams: okx"},
		{"all through the only upstream", []row{{"okx", "tokyo-1", true}, {"kraken", "tokyo-1", true}}, blameUpstream, "tokyo-1, or this machine's network"},
		{"all direct", []row{{"okx", "direct", true}, {"kraken", "direct", true}}, blameNetwork, "all direct feeds"},
		{"direct, alone", []row{{"okx", "direct", true}}, blameUnknown, "cannot tell okx from this machine's network"},
		{"another exchange goes on", []row{{"okx", "tokyo-1", true}, {"kraken", "tokyo-1", false}}, blameExchange, "other exchanges go on, so it is okx, or how tokyo-1 treats it"},
		{"both members of a pool", []row{{"okx", "tokyo-1", true}, {"okx", "tokyo-2", true}, {"kraken", "tokyo-1", true}, {"kraken", "tokyo-2", true}, {"bybit", "fra-1", false}}, blameUpstream, "all feeds through tokyo-1"},
		{"a pool and another exchange", []row{{"okx", "tokyo-1", true}, {"kraken", "tokyo-1", true}, {"deribit", "fra-1", true}, {"bybit", "fra-1", false}, {"gateio", "fra-1", false}}, blameUpstream, "all feeds through tokyo-1"},
		{"most", []row{{"okx", "tokyo-1", true}, {"kraken", "fra-1", true}, {"bybit", "ams-1", true}, {"gateio", "ams-1", false}}, blameNetwork, "3 of 4 feeds are silent at once"},
	} {
		var all []*feedSilence
		for _, r := range c.rows {
			f := &feedSilence{exchange: r.exchange, upstream: r.upstream, kind: catalog.KindWebsocket, watched: 1, healthy: 1}
			if r.silent {
				f.state = ruleLearned
			}
			all = append(all, f)
		}
		s := sceneOf(all)
		if got := s.blameFor(all[0]); got.who != c.who || !strings.Contains(got.why, c.text) || got.hint == "" {
			t.Errorf("%s: %+v, want %s, %q", c.name, got, c.who, c.text)
		}
	}
}
