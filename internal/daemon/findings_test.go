package daemon

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/upstream"
)

// asiaOf is a pool of so many members, tokyo-1 and so on, with binance and okx through it.
func asiaOf(t testing.TB, members int) *router.Router {
	t.Helper()
	var list strings.Builder
	for i := range members {
		fmt.Fprintf(&list, "    - {name: tokyo-%d, url: \"http://192.0.2.1:%d\"}\n", i+1, 1000+i)
	}
	snap, err := Snapshot(testkit.Config(t, `
default: direct
exchanges: {binance: {websocket: asia}, okx: asia}
pools:
  asia:
    eject: {max_percent: 100}
    proxies:
`+list.String()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// eject lets an upstream fail until it is out of use.
func eject(u *upstream.Upstream, class failure.Class) {
	for range 10 {
		u.Observe(upstream.Result{Err: failure.New(class, "as the test wants").With(errors.New("a test"), "")})
	}
}

func textsOf(list []finding) (texts []string) {
	for _, f := range list {
		texts = append(texts, f.text+" | "+f.hint)
	}
	return texts
}

func wantTexts(t *testing.T, got []finding, want ...string) {
	t.Helper()
	texts := textsOf(got)
	ok := len(texts) == len(want)
	for i := range texts {
		ok = ok && regexp.MustCompile("^"+want[i]+"$").MatchString(texts[i])
	}
	if !ok {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(texts, "\n"), strings.Join(want, "\n"))
	}
}

const clockPattern = `\d\d:\d\d:\d\d`

// Each ejected upstream is news, with its class, since when, and what is left of its
// pools, although no exchange is lost; very many share a line that counts them.
func TestReasonsNameEjectedUpstreams(t *testing.T) {
	t.Parallel()
	snap := asiaOf(t, 3)
	wantTexts(t, upstreamFindings(snap, time.Now()))
	eject(snap.Set().Upstream("tokyo-1"), failure.UpstreamRefused)
	eject(snap.Set().Upstream("tokyo-3"), failure.UpstreamAuth)
	wantTexts(t, upstreamFindings(snap, time.Now()),
		`tokyo-1 ejected since `+clockPattern+` \(upstream_refused\), 1 of 3 members of asia left \| is the proxy up, is its port right\?`,
		`tokyo-3 ejected since `+clockPattern+` \(upstream_auth\), 1 of 3 members of asia left \| correct the user and password in its URL, or in the file that this names`)

	snap = asiaOf(t, 120)
	for i := range 100 {
		class := failure.UpstreamTimeout
		if i < 2 {
			class = failure.UpstreamRefused
		}
		eject(snap.Set().Upstream(fmt.Sprintf("tokyo-%d", i+1)), class)
	}
	wantTexts(t, upstreamFindings(snap, time.Now()), `100 of 120 upstreams ejected, the first since `+clockPattern+
		` \(98 upstream_timeout, 2 upstream_refused\): tokyo-1, tokyo-10, tokyo-100 \(\+97 more\); 20 of 120 members of asia left \| proxyd probe tests them`)
}

// An upstream that rejects its credentials is news even if it must not be ejected.
func TestReasonsNameRejectedCredentials(t *testing.T) {
	t.Parallel()
	snap := asiaOf(t, 2)
	u := snap.Set().Upstream("tokyo-1")
	u.Observe(upstream.Result{Err: failure.New(failure.UpstreamAuth, "no").With(errors.New("no"), "")})
	wantTexts(t, upstreamFindings(snap, time.Now()),
		`tokyo-1 rejects its credentials since `+clockPattern+` \(upstream_auth\) \| correct the user and password in its URL, or in the file that this names`)
	since := upstreamFindings(snap, time.Now())[0].since
	time.Sleep(2 * time.Millisecond)
	u.Observe(upstream.Result{Err: failure.New(failure.UpstreamAuth, "no").With(errors.New("no"), "")})
	if again := upstreamFindings(snap, time.Now())[0].since; !again.Equal(since) {
		t.Errorf("since %v became %v", since, again)
	}
	u.Observe(upstream.Result{})
	wantTexts(t, upstreamFindings(snap, time.Now()))
}

// A verdict of a configured exchange is news, those of others and of other pools are not.
func TestReasonsNameVerdicts(t *testing.T) {
	t.Parallel()
	snap := asiaOf(t, 3)
	since, until := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	for _, v := range []struct {
		member, exchange string
		kind             catalog.Kind
		word             upstream.Word
		until            time.Time
	}{
		{"tokyo-1", "okx", catalog.KindWebsocket, upstream.WordGeoblocked, time.Time{}},
		{"tokyo-2", "okx", catalog.KindWebsocket, upstream.WordGeoblocked, time.Time{}},
		{"tokyo-2", "okx", catalog.KindHTTP, upstream.WordRateLimited, until},
		{"tokyo-3", "okx", catalog.KindHTTP, upstream.WordOK, time.Time{}},
		{"tokyo-1", "binance", catalog.KindHTTP, upstream.WordBlocked, time.Time{}},     // which is direct
		{"tokyo-1", "kraken", catalog.KindWebsocket, upstream.WordBlocked, time.Time{}}, // has no entry
	} {
		snap.Set().Upstream(v.member).SetVerdict(v.exchange, v.kind, upstream.Verdict{Word: v.word, Until: v.until, At: since})
	}
	wantTexts(t, verdictFindings(snap, time.Now()),
		`okx http: rate_limited from tokyo-2 since `+clockPattern+`, until [-0-9: ]+, 2 of 3 members of asia left \| send fewer requests, or spread them over more exits`,
		`okx websocket: geoblocked from tokyo-1, tokyo-2 since `+clockPattern+`, 1 of 3 members of asia left \| use exits in another region for it`)
}

// A budget is news while it is used up, with the time when it has room again.
func TestReasonsNameUsedUpBudgets(t *testing.T) {
	t.Parallel()
	server := testkit.NewTCP(t, testkit.Echo)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": server.Addr}})
	snap, err := Snapshot(testkit.Config(t, `
default: direct
pools: {asia: {proxies: [{name: a, exit: tokyo, url: "`+proxy.URL()+`"}]}}
exchanges: {okx: {websocket: {pool: asia, limits: {connects: 5/5m, share: 1/2}}}}
`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		wantTexts(t, slices.Clone(budgetFindings(snap, time.Now())), []string{}...)
		conn, err := snap.Set().Pool("asia").Dial(t.Context(), upstream.Target{Host: "ws.okx.com", Port: 443, Exchange: "okx", Kind: catalog.KindWebsocket})
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		_ = conn.Conn.Close()
		conn.Release()
		if i == 1 {
			break
		}
	}
	wantTexts(t, budgetFindings(snap, time.Now()),
		`okx websocket budget 2/5m \(of 5/5m\) at exit tokyo is used up until [-0-9: ]+ \| spread over more exits, or open fewer connections`)
}

// A watched limit of a second that clients use up as they reconnect together is no news;
// one that they go on using up is, and so is one that holds connections back.
func TestMomentsOfWatchedLimitsAreNoNews(t *testing.T) {
	t.Parallel()
	for limits, want := range map[string][2]int{
		"{connects: 3/1s}": {1, 1},
		"published":        {0, 1},
	} {
		server := testkit.NewTCP(t, testkit.Echo)
		proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": server.Addr}})
		text := "default: direct\npools: {asia: {proxies: [{name: a, exit: tokyo, url: \"" + proxy.URL() + "\"}]}}\nexchanges: {okx: {websocket: {pool: asia"
		if limits != "published" { // which okx has, and which is watched
			text += ", limits: " + limits
		}
		snap, err := Snapshot(testkit.Config(t, text+"}}}\n"), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			conn, err := snap.Set().Pool("asia").Dial(t.Context(), upstream.Target{Host: "ws.okx.com", Port: 443, Exchange: "okx", Kind: catalog.KindWebsocket})
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Conn.Close()
			conn.Release()
		}
		found := budgetFindings(snap, time.Now())
		if len(found) != 1 {
			t.Fatalf("%s: %+v", limits, found)
		}
		alarms, now := alarms{add: func(event.Event) {}}, time.Now()
		if got := len(alarms.update(now, found)); got != want[0] {
			t.Errorf("%s: %d lines at once, want %d", limits, got, want[0])
		}
		if got := len(alarms.update(now.Add(6*time.Second), found)); got != want[1] {
			t.Errorf("%s: %d lines after 6 s, want %d", limits, got, want[1])
		}
	}
}
