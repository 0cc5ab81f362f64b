package upstream

import (
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

const (
	kindHTTP = catalog.KindHTTP
	feedKind = catalog.KindWebsocket
)

// on is a target of an exchange.
func on(exchange string, kind catalog.Kind) Target {
	return Target{Host: "api." + exchange + ".example", Port: 443, Exchange: exchange, Kind: kind}
}

// firsts are the names of n first choices.
func firsts(p *Pool, t Target, n int) string {
	var b strings.Builder
	for range n {
		if i := pick(p, t); i < 0 {
			b.WriteString("-")
		} else {
			b.WriteString(p.members[i].name)
		}
	}
	return b.String()
}

// A bad verdict keeps a member away only from its exchange and kind, while
// another is usable.
func TestVerdictIsForItsPair(t *testing.T) {
	for _, word := range []Word{WordGeoblocked, WordBlocked, WordRateLimited, Word(failure.UpstreamTLS)} {
		t.Run(string(word), func(t *testing.T) {
			p := only(t, load(t, poolOf(proxies(t, 2), "failover"), nil))
			p.members[0].SetVerdict("binance", kindHTTP, Verdict{Word: word})
			for to, want := range map[Target]string{
				on("binance", kindHTTP): "bb", on("binance", feedKind): "aa", on("kraken", kindHTTP): "aa", venue: "aa",
			} {
				if got := firsts(p, to, 2); got != want {
					t.Errorf("%s %s goes to %s, want %s", to.Exchange, to.Kind, got, want)
				}
			}
			p.members[0].SetVerdict("binance", kindHTTP, Verdict{Word: WordOK})
			if got := firsts(p, on("binance", kindHTTP), 2); got != "aa" {
				t.Errorf("with a good one it goes to %s", got)
			}
		})
	}
}

// With bad verdicts for all, the oldest is tried first: but for rate limits
// before their time, which are a refusal that says how long.
func TestAllHaveBadVerdicts(t *testing.T) {
	s := load(t, poolOf(proxies(t, 3), "failover"), nil)
	c, p := stopped(s), only(t, s)
	to := on("binance", kindHTTP)
	set := func(name string, v Verdict) {
		s.Upstream(name).SetVerdict("binance", kindHTTP, v)
		c.pass(time.Second)
	}
	set("a", Verdict{Word: WordRateLimited, Until: c.at.Add(90 * time.Second)})
	set("c", Verdict{Word: WordGeoblocked})
	set("b", Verdict{Word: WordBlocked})
	if conn := open(t, p, to); conn.Member.Name() != "c" {
		t.Errorf("it went through %s, want c", conn.Member.Name())
	}
	set("b", Verdict{Word: WordRateLimited, Until: c.at.Add(30 * time.Second)})
	set("c", Verdict{Word: WordRateLimited, Until: c.at.Add(60 * time.Second)})
	e := denied(t, p, to, testkit.Patience, failure.NoUpstream)
	if e.RetryAfter != 28*time.Second || !strings.Contains(e.Text, "a is rate limited by binance for 85 s, b is rate limited by binance for 28 s, c ") {
		t.Errorf("retry after %v: %s", e.RetryAfter, e.Text)
	}
	c.pass(28 * time.Second)
	if conn := open(t, p, to); conn.Member.Name() != "b" {
		t.Errorf("when b's time was over it went through %s", conn.Member.Name())
	}
}

// No verdict holds against a pair whose feeds are open; for plain requests, what
// is open says nothing.
func TestLiveFeedOverridesVerdict(t *testing.T) {
	p := only(t, load(t, poolOf(proxies(t, 2), "failover"), nil))
	a, b := p.members[0].Upstream, p.members[1].Upstream
	feed, plain := open(t, p, on("binance", feedKind)), open(t, p, on("binance", kindHTTP))
	for _, kind := range []catalog.Kind{kindHTTP, feedKind} {
		a.SetVerdict("binance", kind, Verdict{Word: WordGeoblocked})
	}
	if got := firsts(p, on("binance", feedKind), 1) + firsts(p, on("binance", kindHTTP), 1); got != "ab" {
		t.Errorf("while both are open: %s, want ab", got)
	}
	if _, ok := a.Verdict("binance", feedKind); ok {
		t.Error("the verdict holds against a living feed")
	}
	feed.Release()
	plain.Release()
	if got := firsts(p, on("binance", feedKind), 1); got != "b" {
		t.Errorf("when the feed has ended: %s, want b", got)
	}
	if v, ok := a.Verdict("binance", feedKind); !ok || v.Word != WordGeoblocked || v.At.IsZero() {
		t.Errorf("got %v, %v", v, ok)
	}
	_, release := p.set.Adopt("p", "a", "binance", feedKind) // one that another process has opened
	if got := firsts(p, on("binance", feedKind), 1); got != "a" || a.Live() != 1 {
		t.Errorf("with a feed handed over: %s, want a", got)
	}
	release()
	if a.Live() != 0 || b.Live() != 0 {
		t.Errorf("%d and %d are counted", a.Live(), b.Live())
	}
	probe, err := p.set.DialMember(budget(t, testkit.Patience), a, on("binance", feedKind)) // a probe is no feed
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Release()
	defer probe.Conn.Close()
	if got := firsts(p, on("binance", feedKind), 1); got != "b" {
		t.Errorf("during a probe: %s, want b", got)
	}
}

// A member that denies one exchange is avoided there for a while, for longer each
// time, and is never ejected; when it opens a connection that is over.
func TestDenialIsAVerdict(t *testing.T) {
	list := proxies(t, 2)
	no := testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(2))
	list[0].SetFault(no)
	s := load(t, poolOf(list, "failover"), nil)
	c, p, a := stopped(s), only(t, s), s.Upstream("a")
	to := on("binance", kindHTTP)
	for i, least := range []time.Duration{4, 8, 16} {
		if conn := open(t, p, to); tries(conn.Tried) != "a upstream_denied" {
			t.Fatalf("tried %q", tries(conn.Tried))
		}
		v, ok := a.Verdict("binance", kindHTTP)
		if left := v.Until.Sub(c.at); !ok || v.Word != "upstream_denied" || left < least*time.Second || left > least*time.Second*5/4 {
			t.Errorf("verdict %d: %v %v for %v", i, ok, v.Word, left)
		}
		if got := firsts(p, to, 2) + firsts(p, on("kraken", kindHTTP), 1); got != "bba" || out(s) != "" {
			t.Errorf("then %s with %q out", got, out(s))
		}
		c.pass(v.Until.Sub(c.at))
	}
	list[0].SetFault(nil)
	open(t, p, to).Release()
	if _, ok := a.Verdict("binance", kindHTTP); ok || len(a.Verdicts()) != 0 {
		t.Errorf("after it was allowed: %+v", a.Verdicts())
	}
}

// What the exchange said is not forgotten over a denial, nor because a connection opens.
func TestDenialKeepsExchangeVerdict(t *testing.T) {
	list := proxies(t, 1)
	s := load(t, poolOf(list, "failover"), nil)
	a, to := s.Upstream("a"), on("binance", kindHTTP)
	a.SetVerdict("binance", kindHTTP, Verdict{Word: WordGeoblocked, Text: "451"})
	open(t, only(t, s), to).Release()
	list[0].SetFault(testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(2)))
	denied(t, only(t, s), to, testkit.Patience, failure.UpstreamDenied)
	if v, _ := a.Verdict("binance", kindHTTP); v.Word != WordGeoblocked {
		t.Errorf("it is %q now", v.Word)
	}
}

// An upstream that says when to come back is believed.
func TestDenialWithRetryAfter(t *testing.T) {
	deny := testkit.NewProxy(t, testkit.ProxyOptions{Fault: testkit.On(testkit.AtRequest, testkit.Answer("429 Too Many", "", "Retry-After: 120"))})
	s := load(t, "default: "+deny.URL()+"\n", nil)
	c, p := stopped(s), only(t, s)
	denied(t, p, on("binance", kindHTTP), testkit.Patience, failure.UpstreamDenied)
	if v, _ := p.members[0].Verdict("binance", kindHTTP); v.Until.Sub(c.at) != 2*time.Minute {
		t.Errorf("until %v", v.Until.Sub(c.at))
	}
}

// A new password clears what was remembered of the old one, once it is in force.
func TestNewPasswordClearsAuthFailure(t *testing.T) {
	list := proxies(t, 1)
	text := strings.Replace(poolOf(list, "failover"), "socks5://", "socks5://u:one@", 1)
	for _, cause := range []failure.Class{failure.UpstreamAuth, failure.UpstreamTimeout} {
		s := load(t, text, nil)
		s.Upstream("a").recordUpstreamError(cause, 1)
		s.Upstream("a").SetVerdict("binance", kindHTTP, Verdict{Word: Word(cause)})
		reload(t, s, text, nil).Activate()
		next := reload(t, s, strings.Replace(text, "u:one@", "u:two@", 1), nil)
		if out(s) != "a" {
			t.Fatal("a set that is not in force yet has an effect")
		}
		next.Activate()
		_, verdict := next.Upstream("a").Verdict("binance", kindHTTP)
		if auth := cause == failure.UpstreamAuth; (out(next) == "") != auth || verdict == auth {
			t.Errorf("%s: %q is out, verdict %v", cause, out(next), verdict)
		}
	}
}

// drainedOnly reports whether the status of u says so of an exchange, and of no other.
func drainedOnly(u *Upstream, exchange string) bool {
	kinds := 0
	for _, p := range u.Status().Pairs {
		if p.Drained != (p.Exchange == exchange) {
			return false
		}
		if p.Drained {
			kinds++
		}
	}
	return kinds == 2
}

// A drained member, or pair, gets nothing new, even as the last one.
func TestDrain(t *testing.T) {
	s := load(t, poolOf(proxies(t, 2), "failover"), nil)
	p, a, b := only(t, s), s.Upstream("a"), s.Upstream("b")
	conn := open(t, p, venue)
	a.SetDrained("", true)
	b.SetDrained("binance", true)
	if got := firsts(p, on("kraken", feedKind), 2) + firsts(p, on("binance", feedKind), 1) + firsts(p, on("binance", kindHTTP), 1); got != "bb--" {
		t.Errorf("they went to %s", got)
	}
	e := denied(t, p, on("binance", kindHTTP), testkit.Patience, failure.NoUpstream)
	if want := "pool p has no member that may be used: a is drained, b is drained for binance"; e.Text != want {
		t.Errorf("got %q, want %q", e.Text, want)
	}
	if conn.Member.Name() != "a" || a.Live() != 1 || !a.Drained("") || !a.Drained("kraken") || b.Drained("") || !b.Drained("binance") || !drainedOnly(b, "binance") {
		t.Error("what is drained is not said as it is")
	}
	next := reload(t, s, poolOf(proxies(t, 2), "failover"), nil) // other upstreams
	if next.Upstream("a").Drained("") {
		t.Error("another upstream of the same name is drained")
	}
	a.SetDrained("", false)
	b.SetDrained("binance", false)
	if got := firsts(p, on("binance", feedKind), 1); got != "a" {
		t.Errorf("when resumed: %s", got)
	}
	conn.Release()
}

// What another host has found counts like an own verdict, beside open feeds too: they
// are older. What this process finds replaces it; it never replaces that.
func TestVerdictOfAnotherHost(t *testing.T) {
	s := load(t, poolOf(proxies(t, 2), "failover"), nil)
	c, p := stopped(s), only(t, s)
	a := p.members[0].Upstream
	to := on("binance", feedKind)
	minute := func() time.Time { return c.at.Add(time.Minute) }
	var found []string
	s.OnTurnedAway(func(u *Upstream, v PairVerdict) { found = append(found, u.Name()+" "+string(v.Verdict.Word)) })
	wants := func(want, why string) {
		t.Helper()
		if got := firsts(p, to, 1); got != want {
			t.Errorf("%s: it goes to %s, want %s", why, got, want)
		}
	}
	release := a.adopt("binance", feedKind)
	a.OfferVerdict("binance", feedKind, Verdict{Word: WordBlocked, Until: minute(), From: "h"})
	wants("a", "blocked, which an open feed contradicts")
	a.OfferVerdict("binance", feedKind, Verdict{Word: WordGeoblocked, Until: minute(), From: "h"})
	wants("b", "geoblocked")
	a.WithdrawVerdict("binance", feedKind)
	wants("a", "withdrawn")
	release()
	a.OfferVerdict("binance", feedKind, Verdict{Word: WordBlocked, Until: minute(), From: "h"})
	a.SetVerdict("binance", feedKind, Verdict{Word: WordOK})
	wants("a", "an own good probe")
	a.SetVerdict("binance", feedKind, Verdict{Word: WordGeoblocked, Until: minute()})
	a.OfferVerdict("binance", feedKind, Verdict{Word: WordBlocked, Until: minute(), From: "h"})
	a.WithdrawVerdict("binance", feedKind)
	if v, _ := a.Verdict("binance", feedKind); v.Word != WordGeoblocked || v.From != "" {
		t.Errorf("the own verdict became %+v", v)
	}
	c.pass(time.Minute)
	wants("a", "over")
	a.OfferVerdict("binance", feedKind, Verdict{Word: WordRateLimited, Until: minute(), From: "h"})
	wants("b", "rate limited")
	c.pass(time.Minute)
	wants("a", "its time is over")
	if len(found) != 1 || found[0] != "a geoblocked" {
		t.Errorf("it is said that this process found %v", found)
	}
}

// An exchange's 451 to a plain request is a verdict for a while.
func TestPlainRequestThatIsTurnedAway(t *testing.T) {
	s := load(t, poolOf(proxies(t, 2), "failover"), nil)
	c, p := stopped(s), only(t, s)
	a, to := p.members[0].Upstream, on("binance", kindHTTP)
	said := 0
	s.OnTurnedAway(func(*Upstream, PairVerdict) { said++ })
	for range 3 {
		a.turnedAway(&to)
	}
	if got := firsts(p, to, 1) + firsts(p, on("binance", feedKind), 1); got != "ba" || said != 1 {
		t.Errorf("it goes to %s, and was said %d times", got, said)
	}
	c.pass(turnedAwayTime)
	if got := firsts(p, to, 1); got != "a" {
		t.Errorf("after its time it goes to %s", got)
	}
	a.SetVerdict("binance", kindHTTP, Verdict{Word: WordRateLimited, Until: c.at.Add(time.Minute)})
	if a.turnedAway(&to); a.Turned("binance", kindHTTP) != WordRateLimited {
		t.Error("it replaced a rate limit")
	}
	a.turnedAway(&venue) // no exchange's
	if _, ok := a.Verdict("", venue.Kind); ok {
		t.Error("a verdict of no exchange")
	}
}
