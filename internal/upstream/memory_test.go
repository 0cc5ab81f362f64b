package upstream

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// What one process has learnt the next one knows, whatever names its file uses;
// and no user or password goes over.
func TestMemoryGoesOver(t *testing.T) {
	list := proxies(t, 3)
	text := strings.ReplaceAll(poolOf(list, "failover"), "socks5://", "socks5://someuser:somepassword@")
	s := load(t, text, nil)
	c := stopped(s)
	a, b := s.Upstream("a"), s.Upstream("b")
	for range 3 {
		a.recordUpstreamError(failure.UpstreamTimeout, 3)
	}
	to := on("kraken", feedKind)
	b.opened(&to, 40*time.Millisecond, c.at)
	b.deny(&to, failure.New(failure.UpstreamDenied, "says no"))
	b.SetVerdict("binance", kindHTTP, Verdict{Word: WordRateLimited, Until: c.at.Add(time.Minute), Text: "429"})
	b.SetDrained("okx", true)
	s.Upstream("c").SetDrained("", true)

	sent, err := json.Marshal(s.Export())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(sent), "some") {
		t.Errorf("credentials in %s", sent)
	}
	var came []Memory
	if err := json.Unmarshal(sent, &came); err != nil {
		t.Fatal(err)
	}
	next := load(t, strings.NewReplacer("name: a,", "name: x,", "somepassword", "another").Replace(text), nil)
	c2 := stopped(next)
	c2.at = c.at
	next.Import(append(came, Memory{Key: "nobody's", Drained: true}))
	again, _ := json.Marshal(next.Export())
	byKey := func(data []byte) map[string]Memory {
		var list []Memory
		_ = json.Unmarshal(data, &list)
		m := map[string]Memory{}
		for _, e := range list {
			m[e.Key] = e
		}
		return m
	}
	if d := cmp.Diff(byKey(sent), byKey(again)); d != "" {
		t.Errorf("sent (-) and known (+):\n%s", d)
	}
	if out(next) != "x" || !next.Upstream("c").Drained("") || !next.Upstream("b").Drained("okx") {
		t.Errorf("%q is out", out(next))
	}
	if v, ok := next.Upstream("b").Verdict("binance", kindHTTP); !ok || v.Word != WordRateLimited || v.Text != "429" {
		t.Errorf("got %v, %v", v, ok)
	}
	if got := firsts(only(t, next), on("binance", kindHTTP), 1); got != "-" {
		t.Errorf("the first choice is %s: x is ejected, b rate limited, c drained", got)
	}
	c2.pass(6 * time.Second)
	if n := rejoin(t, next.Upstream("x")); n != 2 {
		t.Errorf("it came back after %d probes", n)
	}
}

// Status says what is known, and nothing secret.
func TestStatus(t *testing.T) {
	list := proxies(t, 2)
	s := load(t, strings.ReplaceAll(poolOf(list, "failover", "weight: 2", "enabled: false"), "socks5://", "socks5://someuser:somepassword@"), nil)
	c, a := stopped(s), s.Upstream("a")
	open(t, only(t, s), on("binance", feedKind))
	list[0].SetFault(testkit.On(testkit.AtAccept, testkit.SayAndHang("SSH-2.0-x\r\n")))
	denied(t, only(t, s), venue, testkit.Patience, failure.UpstreamProtocol)
	a.recordUpstreamError(failure.UpstreamRefused, 1)
	a.SetVerdict("binance", feedKind, Verdict{Word: WordGeoblocked, Text: "451"})
	a.SetDrained("kraken", true)
	got := a.Status()
	if e := got.Ejection; e == nil || e.Cause != failure.UpstreamRefused || !e.Since.Equal(c.at) || !e.Until.After(c.at) {
		t.Errorf("ejection %+v", e)
	}
	if p := got.Pairs[0]; p.LatencyMS <= 0 {
		t.Error("no latency")
	}
	got.Ejection, got.Pairs[0].LatencyMS = nil, 0
	want := Status{
		Name: "a", URL: got.URL, Live: 1, Connects: 1, Failures: map[failure.Class]uint64{failure.UpstreamProtocol: 1}, InUse: true,
		Pairs: []PairStatus{
			{Exchange: "binance", Kind: "websocket", Live: 1, Verdict: &Verdict{Word: WordGeoblocked, At: c.at, Since: c.at, Text: "451"}},
			{Exchange: "kraken", Kind: "http", Drained: true},
			{Exchange: "kraken", Kind: "websocket", Drained: true},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
	text, err := json.Marshal(s.Upstream("b").Status())
	if err != nil || strings.Contains(string(text), "some") || !strings.Contains(string(text), `"in_use":false`) || strings.Contains(got.URL, "some") || !strings.HasSuffix(got.URL, "@"+list[0].Addr) {
		t.Errorf("%s, %v; URL %s", text, err, got.URL)
	}
}

// What may be done with each member for a target.
func TestStandings(t *testing.T) {
	s := load(t, poolOf(proxies(t, 5), "round_robin", "tier: 2", "weight: 3", "", "enabled: false", ""), nil)
	s.Upstream("b").recordUpstreamError(failure.UpstreamRefused, 1)
	s.Upstream("c").SetVerdict("binance", kindHTTP, Verdict{Word: WordBlocked})
	s.Upstream("e").SetDrained("", true)
	want := PoolStatus{"p", []MemberStatus{
		{"a", 1, 2, "usable"}, {"b", 3, 1, "avoided"}, {"c", 1, 1, "avoided"}, {"d", 1, 1, "disabled"}, {"e", 1, 1, "never"},
	}}
	if d := cmp.Diff(want, only(t, s).Standings(on("binance", kindHTTP))); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
}

// The idle connections of plain HTTP end when their upstream is ejected or drained.
func TestKeptEndsWithItsUpstream(t *testing.T) {
	for name, end := range map[string]func(u *Upstream){
		"ejected": func(u *Upstream) { u.recordUpstreamError(failure.UpstreamRefused, 1) },
		"drained": func(u *Upstream) { u.SetDrained("", true) },
	} {
		t.Run(name, func(t *testing.T) {
			server := answering(t)
			proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": server.Addr}})
			s := load(t, "default: "+proxy.URL()+"\n", nil)
			t.Cleanup(s.Close)
			get(t, only(t, s), 1)
			end(only(t, s).members[0].Upstream)
			testkit.Eventually(t, testkit.Patience, "it is closed", func() bool { return server.Open() == 0 })
		})
	}
}
