package daemon

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/relay"
	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// collected returns sources, and what they have added so far.
func collected() (*sources, *[]event.Event) {
	var events []event.Event
	return newSources(func(e event.Event) { events = append(events, e) }), &events
}

func refusal(class failure.Class, exchange string, through ...string) *tunnel.Record {
	r := &tunnel.Record{Event: tunnel.Refused, Class: class, Text: "CANARY-text for canary.example", Hint: "CANARY-hint"}
	r.Exchange, r.Kind, r.Host, r.Label = exchange, catalog.KindWebsocket, "canary.example", "canary"
	for _, name := range through {
		r.Attempts = append(r.Attempts, failure.Attempt{Upstream: name, Class: class})
	}
	return r
}

func ended(exchange, through, by string) *tunnel.Record {
	r := &tunnel.Record{Event: tunnel.Ended, ClosedBy: by, Reason: relay.ReasonReset}
	r.Exchange, r.Kind, r.Upstream, r.Host = exchange, catalog.KindWebsocket, through, "canary.example"
	return r
}

func summary(events []event.Event) string {
	var lines []string
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("%s %s [%s %s %s] %d: %s", e.Severity, e.Type, e.Exchange, e.Kind, e.Upstream, e.Count, e.Text))
	}
	return strings.Join(lines, "\n")
}

// An event of several upstreams is found by the name of each, also of one that joined
// a group later.
func TestEventConcernsEachOfItsUpstreams(t *testing.T) {
	t.Parallel()
	s, events := collected()
	s.record(refusal(failure.UpstreamDenied, "okx", "tokyo-2", "tokyo-1"))
	for round, through := range [][]string{{"paris-1", "paris-2"}, {"paris-1", "paris-3"}} {
		for i := range 10 {
			s.record(ended("bybit", through[i%2], tunnel.ByExchange))
		}
		s.look(time.Now().Add(time.Duration(round+1) * 2 * time.Second))
	}
	s.finish()
	concerned := func(typ event.Type, name string) bool {
		return slices.ContainsFunc(*events, func(e event.Event) bool { return e.Type == typ && e.Concerns(name) })
	}
	for name, typ := range map[string]event.Type{
		"tokyo-1": event.Refused, "tokyo-2": event.Refused,
		"paris-1": event.TunnelsEnded, "paris-2": event.TunnelsEnded, "paris-3": event.TunnelsEnded,
	} {
		if !concerned(typ, name) {
			t.Errorf("no event %s concerns %s: %+v", typ, name, *events)
		}
	}
	if concerned(event.Refused, "paris-1") {
		t.Error("a refusal concerns an upstream that had no part in it")
	}
}

func TestRefusalsAreGrouped(t *testing.T) {
	t.Parallel()
	s, events := collected()
	for range 240 {
		s.record(refusal(failure.UpstreamDenied, "binance_futures", "tokyo-2", "tokyo-1", "tokyo-2"))
	}
	s.record(refusal(failure.UpstreamAuth, "okx", "tokyo-1"))
	s.record(refusal(failure.Budget, "okx"))
	s.record(refusal(failure.Denied, ""))
	s.record(refusal(failure.ClientGone, "okx"))
	s.finish()
	want := `warn refused [binance_futures websocket ] 1: 1 request refused: upstream_denied by tokyo-1, tokyo-2
warn refused [okx websocket tokyo-1] 1: 1 request refused: upstream_auth by tokyo-1
warn budget_exhausted [okx websocket ] 1: 1 request refused: a budget is used up
info refused [ websocket ] 1: 1 request refused: denied
warn refused [binance_futures websocket ] 239: 239 more requests refused in 1 s: upstream_denied by tokyo-1, tokyo-2`
	if got := summary(*events); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Promise (security): events name no host, user or text that a client has given.
func TestEventsNameNothingOfTheClients(t *testing.T) {
	t.Parallel()
	s, events := collected()
	s.record(refusal(failure.UpstreamDenied, "", "tokyo-1"))
	s.record(refusal(failure.TargetDNS, "okx", "tokyo-1"))
	unlisted := refusal("", "okx")
	unlisted.Event = tunnel.Unlisted
	s.record(unlisted)
	for range 10 {
		s.record(ended("", "tokyo-1", tunnel.ByExchange))
	}
	s.finish()
	if len(*events) != 4 {
		t.Errorf("%d events", len(*events))
	}
	for _, e := range *events {
		if text := strings.ToLower(fmt.Sprintf("%+v", e)); strings.Contains(text, "canary") {
			t.Errorf("%s", text)
		}
	}
}

func TestEndsAreGrouped(t *testing.T) {
	t.Parallel()
	s, events := collected()
	for range 40 {
		s.record(ended("okx", "tokyo-1", tunnel.ByUpstream))
	}
	for range 20 {
		s.record(ended("kraken", "tokyo-1", tunnel.ByUpstream))
	}
	for range 9 {
		s.record(ended("okx", "tokyo-1", tunnel.ByProxyd))
	}
	for range 6 {
		s.record(ended("bybit", "direct", tunnel.ByClient))
	}
	s.record(ended("okx", "osaka-1", tunnel.ByExchange))
	s.look(time.Now().Add(2 * time.Second))
	want := `warn tunnels_ended [ websocket tokyo-1] 60: 60 tunnels through tokyo-1 ended within 1 s: closed by the upstream (reset)
info tunnels_ended [bybit websocket direct] 6: 6 tunnels of bybit websocket through direct ended within 1 s: closed by the client (reset)`
	if got := summary(*events); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Without their rules, redirected connections are reset, and new ones go direct.
func TestResetOfRedirectedTunnelsNamesTheRules(t *testing.T) {
	t.Parallel()
	s, events := collected()
	for range 9 {
		r := ended("okx", "paris-1", tunnel.ByClient)
		r.Protocol = tunnel.Transparent
		s.record(r)
	}
	s.look(time.Now().Add(2 * time.Second))
	want := "info tunnels_ended [okx websocket paris-1] 9: 9 tunnels of okx websocket through paris-1 ended within 1 s: closed by the client (reset, redirected)"
	if got := summary(*events); got != want || !strings.Contains((*events)[0].Hint, "nft list table inet proxyd") {
		t.Errorf("%s\nwant\n%s\n%+v", got, want, *events)
	}
}

// A connection that would go round is a warning of its own, with what to do.
func TestRefusedLoopOfRedirectedConnections(t *testing.T) {
	t.Parallel()
	s, events := collected()
	s.record(refusal(failure.Denied, ""))
	r := refusal(failure.Denied, "")
	r.Protocol, r.Text = tunnel.Transparent, "proxy_loop_detected: proxyd itself has opened it, to 192.0.2.1:3128"
	s.record(r)
	s.finish()
	want := `info refused [ websocket ] 1: 1 request refused: denied
warn refused [ websocket ] 1: 1 request refused: proxy_loop_detected`
	if got := summary(*events); got != want || !strings.Contains((*events)[1].Hint, "run proxyd as another user") {
		t.Errorf("%s\nwant\n%s\n%+v", got, want, *events)
	}
}

// The end of an upstream's tunnels is a warning of its own, though clients have just
// closed others through it.
func TestEndsByTheUpstreamAreNotGroupedWithThoseByClients(t *testing.T) {
	t.Parallel()
	s, events := collected()
	now := time.Now()
	for i, by := range []string{tunnel.ByClient, tunnel.ByUpstream} {
		for range 9 {
			s.record(ended("okx", "paris-1", by))
		}
		s.look(now.Add(time.Duration(2+2*i) * time.Second))
	}
	want := `info tunnels_ended [okx websocket paris-1] 9: 9 tunnels of okx websocket through paris-1 ended within 1 s: closed by the client (reset)
warn tunnels_ended [okx websocket paris-1] 9: 9 tunnels of okx websocket through paris-1 ended within 1 s: closed by the upstream (reset)`
	if got := summary(*events); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// What a probe has found against a pair whose feed lives is no event: it does not hold.
// It is one when the feed has ended.
func TestStandingsWaitForTheEndOfAFeed(t *testing.T) {
	t.Parallel()
	set, err := upstream.NewSet(testkit.Config(t, `{default: direct, pools: {asia: {proxies: [{name: tokyo-1, url: "http://127.0.0.1:1"}]}}}`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var events []event.Event
	s := newStandings(set.Upstreams(), func(e event.Event) { events = append(events, e) })
	_, end := set.Adopt("asia", "tokyo-1", "okx", catalog.KindWebsocket)
	for _, k := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
		set.Upstream("tokyo-1").SetVerdict("okx", k, upstream.Verdict{Word: upstream.WordGeoblocked})
	}
	s.compare(set.Upstreams())
	const http = "warn verdict [okx http tokyo-1] 0: okx http through tokyo-1: geoblocked, before: ok"
	if got := summary(events); got != http {
		t.Errorf("while the feed lives:\n%s\nwant\n%s", got, http)
	}
	end()
	s.compare(set.Upstreams())
	_, end = set.Adopt("asia", "tokyo-1", "okx", catalog.KindWebsocket) // which brings none
	defer end()
	s.compare(set.Upstreams())
	if got, want := summary(events), http+"\nwarn verdict [okx websocket tokyo-1] 0: okx websocket through tokyo-1: geoblocked, before: ok"; got != want {
		t.Errorf("when it has ended:\n%s\nwant\n%s", got, want)
	}
}

func TestStandingsAddWhatChanges(t *testing.T) {
	t.Parallel()
	set, err := upstream.NewSet(testkit.Config(t, `{default: direct, pools: {asia: {proxies: [{name: tokyo-1, url: "http://127.0.0.1:1"}, {name: tokyo-2, url: "http://127.0.0.1:2"}]}}}`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	u := set.Upstream("tokyo-1")
	u.SetVerdict("okx", catalog.KindHTTP, upstream.Verdict{Word: upstream.WordBlocked})
	var events []event.Event
	s := newStandings(set.Upstreams(), func(e event.Event) { events = append(events, e) })
	for _, word := range []upstream.Word{upstream.WordBlocked, upstream.WordGeoblocked, upstream.WordGeoblocked, upstream.WordOK, upstream.WordOK} {
		u.SetVerdict("okx", catalog.KindHTTP, upstream.Verdict{Word: word, Text: "it answered"})
		s.compare(set.Upstreams())
	}
	for range 20 {
		u.Observe(upstream.Result{Err: &failure.Error{Class: failure.UpstreamRefused}, Blamed: true})
	}
	s.compare(set.Upstreams())
	s.compare(set.Upstreams())
	s.compare([]*upstream.Upstream{set.Upstream("tokyo-2")}) // tokyo-1 has left the configuration
	if len(s.ejected)+len(s.verdicts) > 0 {
		t.Errorf("it is still known: %v %v", s.ejected, s.verdicts)
	}
	want := `warn verdict [okx http tokyo-1] 0: okx http through tokyo-1: geoblocked, before: blocked; it answered
info verdict [okx http tokyo-1] 0: okx http through tokyo-1: ok, before: geoblocked; it answered
warn upstream_ejected [  tokyo-1] 0: tokyo-1 is ejected for at least N s: upstream_refused`
	if got := regexp.MustCompile(`\d+ s:`).ReplaceAllString(summary(events), "N s:"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
