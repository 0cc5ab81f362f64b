package feed

import (
	"net"
	"strings"
	"testing"
	"time"

	"proxyd/internal/event"
	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
)

// A stream that dies behind its heartbeats makes its feed silent, with the upstream
// to blame since the exchange goes on through another; it is back within seconds.
//
// Promise (feeds): a feed that dies behind its heartbeats is found by what it carried before.
func TestFeedThatDiesBehindItsHeartbeatsIsSilent(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "auto")
	first, through := q.open("ws.okx.com", steady(700))
	q.open("ws.okx.com", steady(700))
	q.open("ws.kraken.com", steady(500))
	q.pass(1290)
	if n := len(q.events); n > 0 {
		t.Fatalf("%d events: %+v", n, q.events)
	}
	first.rate = beats
	q.pass(121)
	found := q.emitted(event.FeedSilent)
	if len(found) != 1 || found[0].Exchange != "okx" || found[0].Upstream != through || found[0].Count != 1 || found[0].Severity != event.Error {
		t.Fatalf("%+v, want okx through %s", found, through)
	}
	other := map[string]string{"tokyo-1": "tokyo-2", "tokyo-2": "tokyo-1"}[through]
	for _, part := range []string{"silent since ", ": 1 of 1 tunnel through " + through + " (the feed carried 42 kB a minute); okx through " + other + " goes on: " + through} {
		if !strings.Contains(found[0].Text, part) {
			t.Errorf("%q does not say %q", found[0].Text, part)
		}
	}
	if s, text := q.state("okx"); s != Silent || !strings.Contains(text, "goes on: "+through) {
		t.Errorf("okx is %s: %s", s, text)
	}
	if s, _ := q.state("kraken"); s != OK {
		t.Errorf("kraken is %s", s)
	}
	q.pass(600)
	if n := len(q.events); n > 0 {
		t.Errorf("%d more events while it lasts: %+v", n, q.events)
	}
	r := q.table.Report()
	if began := q.now.Add(-721 * time.Second); r.Exchanges[0].State != Silent || r.Exchanges[0].Since.Before(began.Add(-time.Minute)) || r.Exchanges[0].Since.After(began.Add(time.Minute)) {
		t.Errorf("%s since %s, want about %s", r.Exchanges[0].State, r.Exchanges[0].Since, began)
	}
	if want := "proxyd close --exchange okx --upstream " + through + ": the clients reconnect"; r.Exchanges[0].Hint != want || found[0].Hint != want {
		t.Errorf("hints %q and %q, want %q", r.Exchanges[0].Hint, found[0].Hint, want)
	}
	first.rate = steady(700)
	q.pass(5)
	if found := q.emitted(event.FeedBack); len(found) != 1 || found[0].Exchange != "okx" {
		t.Errorf("back: %+v", found)
	}
	if s, _ := q.state("okx"); s != OK {
		t.Errorf("okx is %s", s)
	}
}

// Silent tunnels are closed a few at a time, and count against their upstream since
// the exchange goes on through the other; those that carry stay.
//
// Promise (feeds): at most half of a feed's tunnels are closed for silence in 30 s, and ten a second of an exchange.
func TestSilentTunnelsAreClosedAFewAtATime(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "{window_seconds: 10, bytes: 500, action: close}")
	var dead []*line
	for range 60 {
		if l, through := q.open("ws.okx.com", steady(300)); through == "tokyo-1" {
			dead = append(dead, l)
		}
	}
	q.pass(30)
	if len(dead) != 30 || q.handler.Active() != 60 || len(q.events) > 0 {
		t.Fatalf("%d through tokyo-1, %d in all; %v", len(dead), q.handler.Active(), q.events)
	}
	for _, l := range dead {
		l.rate = steady(10)
	}
	most, before := 0, 60
	closed := func() int { return 60 - q.handler.Active() }
	for sec := range 60 {
		q.pass(1)
		most, before = max(most, before-q.handler.Active()), q.handler.Active()
		if sec < 30 && closed() > 15 {
			t.Fatalf("%d of 30 closed after %d s", closed(), sec)
		}
	}
	if most != 10 || closed() <= 15 || closed() > 30 {
		t.Errorf("at most %d in a second, %d in all", most, closed())
	}
	if _, _, ejected := q.set.Upstream("tokyo-1").Ejected(); !ejected {
		t.Error("tokyo-1 is not ejected though okx goes on through tokyo-2")
	}
	if _, _, ejected := q.set.Upstream("tokyo-2").Ejected(); ejected {
		t.Error("tokyo-2 is ejected")
	}
	for _, l := range q.lines {
		if l.over && l.rate(0) != 10 {
			t.Error("a tunnel that carries was closed")
		}
	}
	if found := q.emitted(event.TunnelsClosed); len(found) < 2 || found[0].Count != 10 {
		t.Errorf("%+v", found)
	}
}

// Tunnels that their clients have opened again do not raise how many may be closed.
func TestTunnelsOpenedAgainLetNoMoreBeClosed(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "{window_seconds: 10, bytes: 500, action: close}")
	var dead []*line
	for range 40 {
		l, _ := q.open("ws.kraken.com", steady(300))
		dead = append(dead, l)
	}
	q.pass(20)
	for _, l := range dead {
		l.rate = steady(10)
	}
	at := []int{0} // how many were closed, after each second
	for sec := 1; sec <= 60; sec++ {
		q.pass(1)
		closed := 40 - q.handler.Active()
		for range closed {
			q.open("ws.kraken.com", steady(300))
		}
		at = append(at, at[sec-1]+closed)
		if n := at[sec] - at[max(0, sec-30)]; n > 20 {
			t.Fatalf("%d of 40 closed within 30 s, after %d s", n, sec)
		}
	}
	if at[60] != 40 {
		t.Errorf("%d of 40 closed after a minute", at[60])
	}
}

// An upstream is not charged when the exchange is silent through the other, too.
func TestSilenceOfExchangeIsNotCharged(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "{window_seconds: 10, bytes: 500, action: close}")
	for range 20 {
		q.open("ws.okx.com", steady(10))
	}
	q.open("ws.kraken.com", steady(300))
	q.pass(20)
	if q.handler.Active() >= 21 {
		t.Fatal("none is closed")
	}
	for _, name := range []string{"tokyo-1", "tokyo-2"} {
		if _, _, ejected := q.set.Upstream(name).Ejected(); ejected {
			t.Errorf("%s is ejected", name)
		}
	}
	found := q.emitted(event.FeedSilent)
	if len(found) != 2 || !strings.Contains(found[1].Text, "silent through 2 upstreams: okx") {
		t.Errorf("%+v", found)
	}
}

// A reload changes the rule of live tunnels.
//
// Promise (feeds): a reload that changes silence applies to live tunnels.
func TestReloadChangesSilence(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "off")
	q.open("ws.kraken.com", steady(10))
	q.pass(60)
	if len(q.events) > 0 {
		t.Fatalf("off: %+v", q.events)
	}
	q.reload("{window_seconds: 10, bytes: 500}")
	q.pass(13)
	if found := q.emitted(event.FeedSilent); len(found) != 1 {
		t.Fatalf("a window: %+v", found)
	}
	q.reload("{window_seconds: 10, bytes: 500}")
	q.pass(2)
	if len(q.events) > 0 {
		t.Errorf("the same again: %+v", q.events)
	}
	q.reload("off")
	q.pass(2)
	if found := q.emitted(event.FeedBack); len(found) != 1 || !strings.Contains(found[0].Text, "configuration has changed") {
		t.Errorf("off again: %+v", found)
	}
	if s, _ := q.state("kraken"); s != OK {
		t.Errorf("kraken is %s", s)
	}
}

// A client that does not read is an event of its own: its tunnel is not silent, and
// not closed for it.
//
// Promise (feeds): a client that does not read is never taken for a silence of the exchange.
func TestClientThatDoesNotReadIsReported(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "{window_seconds: 5, bytes: 500, action: close}")
	l, _ := q.openFor("ws.kraken.com", steady(0), func(net.Conn) {})
	wrote := make(chan struct{})
	go func() { // ends with the tunnel
		defer close(wrote)
		for {
			if _, err := l.far.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { q.handler.CloseAll(); <-wrote })
	stalled := func() (yes bool) {
		q.handler.Each(func(live tunnel.Live) bool { yes = live.ClientStalled; return true })
		return yes
	}
	testkit.Eventually(t, testkit.Patience, "it does not read", stalled)
	for range 3 * stallTime {
		testkit.Eventually(t, testkit.Patience, "it does not read", stalled)
		q.now = q.now.Add(time.Second)
		q.table.tick(q.now)
	}
	if len(q.events) != 1 || q.events[0].Type != event.ClientStalled || q.events[0].Exchange != "kraken" || q.events[0].Count != 1 {
		t.Errorf("%+v", q.events)
	}
	if q.handler.Active() != 1 {
		t.Error("it is closed")
	}
}
