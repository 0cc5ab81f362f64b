package daemon

import (
	"fmt"
	"strings"
	"testing"

	"proxyd/internal/catalog"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// What a reload has given another route is named, by exchange and upstream; what keeps
// its route, what a listener's use has routed, and what on_removed closes, is not.
func TestTunnelsLeftByAReload(t *testing.T) {
	t.Parallel()
	const text = `
listen: [{address: "127.0.0.1:1080", use: one}]
pools: {one: {proxies: [{name: tokyo-1, url: "http://127.0.0.1:1"}]}, two: {proxies: [{name: paris-1, url: "http://127.0.0.1:2"}]}}
exchanges: {okx: one, kraken: one, bybit: direct}
default: reject
`
	snapshot := func(text string, prev *upstream.Set) *router.Router {
		r, err := Snapshot(testkit.Config(t, text), prev, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	prev := snapshot(text, nil)
	live := func(host, exchange, upstream, rule string) tunnel.Live {
		u := prev.Set().Upstream(upstream)
		if upstream == "direct" {
			u = prev.Set().Direct().Members()[0].Upstream
		}
		return tunnel.Live{Member: u, Opening: &tunnel.Opening{Host: host, Port: 443, Kind: catalog.KindWebsocket, Exchange: exchange, Upstream: upstream, Rule: rule}}
	}
	tunnels := []tunnel.Live{
		live("ws.okx.com", "okx", "tokyo-1", "exchange okx"), live("ws.okx.com", "okx", "tokyo-1", "exchange okx"),
		live("ws.kraken.com", "kraken", "tokyo-1", "exchange kraken"),
		live("stream.bybit.com", "bybit", "direct", "exchange bybit"),
		live("ws.okx.com", "okx", "tokyo-1", "listener 127.0.0.1:1080 use"),
		{Opening: &tunnel.Opening{Host: "ws.okx.com", Port: 443, Upstream: "gone"}}, // from another process
	}
	each := func(yield func(tunnel.Live) bool) {
		for _, l := range tunnels {
			if !yield(l) {
				return
			}
		}
	}
	okx := "2 tunnels of okx still go through tokyo-1"
	for _, c := range []struct{ old, now, want string }{
		{"", "", "[]"},
		{"okx: one", "okx: two", "[" + okx + "]"},
		{"okx: one", "okx: direct", "[" + okx + "]"},
		{"okx: one", "okx: reject", "[" + okx + "]"},
		{"okx: one, kraken: one, bybit: direct", "okx: two, kraken: one, bybit: two", "[" + okx + " 1 tunnel of bybit still goes through direct]"},
		{"127.0.0.1:1\"", "127.0.0.1:3\"", "[" + okx + " 1 tunnel of kraken still goes through tokyo-1]"}, // the upstream is another one
	} {
		next := snapshot(strings.Replace(text, c.old, c.now, 1), prev.Set())
		if got := fmt.Sprint(leftBy(prev, next, each)); got != c.want {
			t.Errorf("%s: %s, want %s", c.now, got, c.want)
		}
	}
	drains := strings.Replace(text, "127.0.0.1:1\"", "127.0.0.1:3\"", 1) + "on_removed: drain\n"
	if got := leftBy(prev, snapshot(drains, prev.Set()), each); len(got) != 0 {
		t.Errorf("which on_removed closes: %v", got)
	}
}
