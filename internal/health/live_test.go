package health

import (
	"context"
	"sync"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
)

// TestRegion: of two exits one is where the exchange does not serve. Within one
// interval both verdicts are known, and that of another exchange through the
// same exit is not touched. When the exchange's mind changes, that shows too.
func TestRegion(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	closed, served := testkit.NewVenue(t, ca), testkit.NewVenue(t, ca)
	closed.Answer(testkit.VenueReply{Status: 451})
	tokyo := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"api.binance.com": served.Addr, "api.bybit.com": served.Addr}})
	newYork := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"api.binance.com": closed.Addr, "api.bybit.com": served.Addr}})
	r := snapshot(t, `
pools:
  asia:
    proxies: [{name: tokyo, url: "`+tokyo.URL()+`"}, {name: new-york, url: "`+newYork.URL()+`"}]
    health_check: {method: exchange, interval_seconds: 1}
exchanges: {binance: {http: asia}, bybit: {http: asia}}
`)
	var mu sync.Mutex
	verdicts, since := map[string]Verdict{}, time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { // ends with cancel
		_ = Run(ctx, Options{
			Router: func() *router.Router { return r },
			Known:  func(Pair) Known { return Known{} },
			Roots:  ca.Pool,
			Observe: func(p Pair, r Result) {
				if p.Kind != catalog.KindHTTP {
					return // the default's, which is direct and has no check
				}
				mu.Lock()
				defer mu.Unlock()
				verdicts[p.Member.Name()+" "+p.Exchange] = r.Verdict
			},
		})
	})
	defer loop.Wait()
	defer cancel()
	are := func(want map[string]Verdict) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			for k, v := range want {
				if verdicts[k] != v {
					return false
				}
			}
			return true
		}
	}
	testkit.Eventually(t, testkit.Patience, "the first verdicts", are(map[string]Verdict{
		"tokyo binance": OK, "tokyo bybit": OK, "new-york binance": Geoblocked, "new-york bybit": OK,
	}))
	if took := time.Since(since); took > 3*time.Second { // an interval of 1 s, and a busy machine
		t.Errorf("the first verdicts took %v", took)
	}
	closed.Answer(testkit.VenueReply{})
	testkit.Eventually(t, testkit.Patience, "the region is served again", are(map[string]Verdict{"new-york binance": OK}))
	newYork.SetFault(testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(2)))
	testkit.Eventually(t, testkit.Patience, "the proxy says no", are(map[string]Verdict{"new-york binance": "upstream_denied", "new-york bybit": "upstream_denied", "tokyo binance": OK}))
}

// TestPairs: what is asked follows the routes, the user's addresses and the
// catalogue's.
func TestPairs(t *testing.T) {
	r := snapshot(t, `
pools: {asia: {proxies: [{name: a, url: "http://a.example:1"}, {name: off, url: "http://off.example:1", enabled: false}]}, eu: {proxies: [{name: e, url: "http://e.example:1"}]}}
default: eu
exchanges:
  binance: {http: direct, websocket: asia}
  kraken: reject
  kucoin: asia
  my_venue: {hosts: {http: [api.venue.example], websocket: ["*.venue.example"]}, websocket: asia, probe: {websocket: "ws://1.stream.venue.example:8080/x"}}
  okx: {http: asia, probe: {http: "https://elsewhere.example/okx"}}
  bybit: {http: asia}
routes: [{hosts: [api.bybit.com], use: eu}]
`)
	var got []string
	for _, p := range Pairs(r, Configured(r.Config())) {
		got = append(got, p.Member.Name()+" "+p.Exchange+" "+p.Kind.String()+" "+p.Target.Host+" "+p.URL)
	}
	want := []string{
		"direct binance http api.binance.com https://api.binance.com/api/v3/ping",
		"a binance websocket stream.binance.com wss://stream.binance.com:9443/ws/btcusdt@trade",
		"a kucoin http api.kucoin.com https://api.kucoin.com/api/v1/timestamp",
		"a kucoin websocket push-private.kucoin.com ",
		"e my_venue http api.venue.example ",
		"a my_venue websocket 1.stream.venue.example ws://1.stream.venue.example:8080/x",
		"a okx http elsewhere.example https://elsewhere.example/okx",
		"e okx websocket ws.okx.com wss://ws.okx.com:8443/ws/v5/public",
		"e bybit http api.bybit.com https://api.bybit.com/v5/market/time",
		"e bybit websocket stream.bybit.com wss://stream.bybit.com/v5/public/spot",
	}
	diff(t, got, want)

	got = nil
	for _, p := range Grid(r, []string{"binance", "kraken"}) {
		got = append(got, p.Member.Name()+" "+p.Exchange+" "+p.Kind.String())
	}
	diff(t, got, []string{
		"direct binance http", "a binance http", "e binance http", "a binance websocket", "e binance websocket",
		"a kraken http", "e kraken http", "a kraken websocket", "e kraken websocket",
	})
}
