package feed_test

import (
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// setVerdict is a verdict of okx on an upstream.
func (r *records) setVerdict(name string, kind catalog.Kind, word upstream.Word) {
	r.router.Load().Set().Upstream(name).SetVerdict("okx", kind, upstream.Verdict{Word: word})
}

// eject lets an upstream fail until it is out of use.
func (r *records) eject(name string, class failure.Class) {
	for range 10 {
		r.router.Load().Set().Upstream(name).Observe(upstream.Result{Err: failure.New(class, "as the test wants")})
	}
}

// Promise (feeds): a status does not say that no upstream can be used while new connections go through one that an exchange turns away, or that is ejected: it names it, and what to do.
func TestWordsOfAPoolWithoutHealthyMembersSayWhatIsStillTried(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		r.open(rest)
		r.setVerdict("tokyo-1", rest, upstream.WordGeoblocked)
		r.setVerdict("tokyo-2", rest, upstream.WordGeoblocked)
		row := r.row("okx", "http")
		if row.Text != "no healthy upstream for new connections: tokyo-1, tokyo-2 are geoblocked; they are still tried" || !row.Degraded() {
			t.Errorf("%+v", row)
		}
		if row.Hint != "use an exit in another region: proxyd probe --all okx tries every upstream of the file" {
			t.Errorf("%s", row.Hint)
		}
		r.router.Load().Set().Upstream("tokyo-2").SetDrained("", true)
		row = r.row("okx", "http")
		if row.Text != "no healthy upstream for new connections: tokyo-2 is drained, tokyo-1 is geoblocked; tokyo-1 is still tried" {
			t.Errorf("%s", row.Text)
		}
		if row.Hint != "to end the drain: proxyd resume tokyo-2; else use an exit in another region: proxyd probe --all okx tries every upstream of the file" {
			t.Errorf("%s", row.Hint)
		}
		r.setVerdict("tokyo-1", rest, upstream.WordOK)
		if row := r.row("okx", "http"); row.Text != "" || row.Degraded() || row.Hint != "" {
			t.Errorf("%+v", row)
		}
	})
}

// Tunnels that the exchange ends at once through an exit which it is known to turn away
// have that cause, with its remedy; it is known of the other kind, too.
func TestLossNamesTheVerdictOfItsUpstream(t *testing.T) {
	t.Parallel()
	for kind, want := range map[catalog.Kind]string{ws: "tokyo-1 is geoblocked by okx", rest: "tokyo-1 is geoblocked by okx (http)"} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			onClock(t, twoUpstreams, func(r *records) {
				r.setVerdict("tokyo-1", kind, upstream.WordGeoblocked)
				for _, by := range []string{"client", "exchange", "client"} {
					end := r.open(ws)
					time.Sleep(100 * time.Millisecond)
					end(by, 900, 6000)
				}
				r.open(ws) // which contradicts nothing: it has shown nothing yet
				row := r.row("okx", "websocket")
				if row.State != feed.Lost || row.Cause != want || !strings.Contains(row.Text, "3 ended within 5 s since ") || !strings.HasSuffix(row.Text, ": "+want) {
					t.Errorf("%s; %s", row.Text, row.Cause)
				}
				if row.Hint != "use an exit in another region: proxyd probe --all okx tries every upstream of the file" {
					t.Errorf("%s", row.Hint)
				}
			})
		})
	}
}

// Where an upstream fails and another member is drained, the drain is a part of the
// cause, and its end the first remedy.
func TestLossNamesADrainedMember(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		r.router.Load().Set().Upstream("tokyo-2").SetDrained("", true)
		end := r.open(ws)
		time.Sleep(time.Minute)
		end(tunnel.ByUpstream, 900, 6000)
		r.eject("tokyo-1", failure.UpstreamRefused)
		for range 3 {
			r.refuse(ws, failure.UpstreamRefused, nil)
		}
		row := r.row("okx", "websocket")
		if row.State != feed.Lost || row.Cause != "upstream_refused by tokyo-1; tokyo-2 is drained" || !strings.HasSuffix(row.Text, ": "+row.Cause) {
			t.Errorf("%s; %s", row.Text, row.Cause)
		}
		if !strings.HasPrefix(row.Hint, "to end the drain: proxyd resume tokyo-2; else nothing listens at tokyo-1: ") {
			t.Errorf("%s", row.Hint)
		}
		r.router.Load().Set().Upstream("tokyo-2").SetDrained("", false)
		if row := r.row("okx", "websocket"); strings.Contains(row.Cause+row.Hint, "drain") {
			t.Errorf("%s; %s", row.Cause, row.Hint)
		}
	})
}

// A drain is no part of the cause where the exchange ends the tunnels of other members:
// it may be the remedy of just that.
func TestLossAtTheExchangeDoesNotNameADrain(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		r.router.Load().Set().Upstream("tokyo-2").SetDrained("okx", true)
		for range 3 {
			end := r.open(ws)
			time.Sleep(100 * time.Millisecond)
			end("exchange", 900, 6000)
		}
		if row := r.row("okx", "websocket"); row.State != feed.Lost || strings.Contains(row.Cause+row.Hint, "drain") {
			t.Errorf("%s; %s; %s", row.State, row.Cause, row.Hint)
		}
	})
}

// A loss whose tunnels have opened again says so, while none has lasted yet.
func TestLossSaysThatTunnelsAreOpenAgain(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		for range 3 {
			end := r.open(ws)
			time.Sleep(300 * time.Millisecond)
			end("exchange", 900, 6000)
		}
		r.open(ws)
		if row := r.row("okx", "websocket"); row.Retrying {
			t.Errorf("at once: %s", row.Text)
		}
		time.Sleep(1100 * time.Millisecond)
		row := r.row("okx", "websocket")
		if row.State != feed.Lost || !row.Retrying || withoutDay(row.Text) != "1 tunnel is open, no failure since 00:00:00, ok when a new one has lasted 5 s; before, 3 ended within 5 s since 00:00:00: closed by the exchange through tokyo-1" {
			t.Errorf("%v %s", row.Retrying, row.Text)
		}
	})
	onClock(t, twoUpstreams, func(r *records) { // a tunnel that goes on is none that is open again
		r.open(ws)
		time.Sleep(time.Minute)
		for range 3 {
			end := r.open(ws)
			time.Sleep(300 * time.Millisecond)
			end("exchange", 900, 6000)
		}
		time.Sleep(2 * time.Second)
		if row := r.row("okx", "websocket"); row.State != feed.Lost || row.Retrying || row.Tunnels != 1 {
			t.Errorf("%v %s", row.Retrying, row.Text)
		}
	})
}
