package upstream

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/failure"
)

// What one process has learnt the next one knows, whatever names its file uses;
// and no user or password goes over.
func TestExportImport(t *testing.T) {
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
	next.Import(append(came, Memory{Key: "unknown", Drained: true}))
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
