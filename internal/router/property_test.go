package router_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/target"
)

// The names, patterns and addresses of the random configurations: few, so that
// they meet.
var (
	someNames = strings.Fields("x.example a.x.example b.x.example c.a.x.example y.example example " +
		"api.binance.com stream.binance.com new.binance.com fapi.binance.com binance.com wsx.binance.com new.kucoin.eu feed.kucoin.eu new.gateio.ws stream-x.gate.com " +
		"api.gateio.ws kucoin.com api.kucoin.com push9.kucoin.com deep.push9.kucoin.com localhost")
	someWild     = strings.Fields("*.example *.x.example *.a.x.example *.com *.binance.com *.kucoin.com *.push9.kucoin.com *.ws")
	someNets     = strings.Fields("10.0.0.0/8 10.1.0.0/16 10.1.2.3 0.0.0.0/0 ::/0 2001:db8::/32 2001:db8::1 ::ffff:10.1.0.0/112")
	someAddrs    = strings.Fields("10.1.2.3 10.1.9.9 10.9.9.9 52.1.2.3 2001:db8::1 2001:db8::2 ::1 ::ffff:10.1.2.3")
	someIDs      = strings.Fields("binance gateio kucoin binance_futures binance_delivery venue other")
	someKinds    = []catalog.Kind{catalog.KindBoth, catalog.KindHTTP, catalog.KindWebsocket}
	someListens  = strings.Fields("127.0.0.1:7000 127.0.0.1:7001")
	someTimeouts = []time.Duration{0, time.Second, 9 * time.Second}
)

// dice makes configurations.
type dice struct{ *rand.Rand }

func one[T any](d dice, list []T) T { return list[d.IntN(len(list))] }

func (d dice) pattern(lists ...[]string) target.Pattern {
	text := one(d, one(d, lists))
	p, err := target.ParsePattern(text)
	if err != nil {
		panic(text + ": " + err.Error())
	}
	return p
}

func (d dice) outbound(source string) *config.Outbound {
	w := &config.Outbound{Source: source, Timeout: one(d, someTimeouts)}
	switch d.IntN(4) {
	case 0:
		w.Action = config.Direct
	case 1:
		w.Action = config.Reject
	case 2:
		w.Action, w.Pool = config.Use, "asia"
	case 3:
		w.Action, w.Pool = config.Use, "europe"
	}
	return w
}

func (d dice) outbounds(source string) (w config.Outbounds) {
	if d.IntN(2) == 0 {
		w.HTTP = d.outbound(source + ".http")
	}
	if d.IntN(2) == 0 {
		w.Websocket = d.outbound(source + ".websocket")
	}
	return w
}

func (d dice) config() *config.Config {
	c := &config.Config{Enabled: d.IntN(4) > 0, Default: d.outbounds("default")}
	for _, name := range []string{"asia", "europe"} {
		host, _ := target.ParseHost(name + ".example")
		p := config.Proxy{Name: name, URL: config.URL{Scheme: config.SchemeSOCKS5, Host: host, Port: 1080}, Weight: 1, Tier: 1, Enabled: true}
		c.Pools = append(c.Pools, config.Pool{Name: name, Strategy: config.RoundRobin, Proxies: []config.Proxy{p}})
	}
	for i, address := range someListens {
		l := config.Listener{Address: address, Kind: one(d, []catalog.Kind{0, catalog.KindHTTP, catalog.KindWebsocket})}
		if d.IntN(3) == 0 {
			l.Use = d.outbound(fmt.Sprintf("listen[%d].use", i))
		}
		c.Listen = append(c.Listen, l)
	}
	for _, i := range d.Perm(len(someIDs))[:d.IntN(len(someIDs)+1)] {
		e := config.Exchange{ID: someIDs[i], Outbounds: d.outbounds("exchanges." + someIDs[i]), UnlistedDefault: d.IntN(8) == 0}
		for range d.IntN(3) {
			e.Hosts = append(e.Hosts, config.Host{Pattern: d.pattern(someNames, someWild), Kind: one(d, someKinds)})
		}
		c.Exchanges = append(c.Exchanges, e)
	}
	for i := range d.IntN(4) {
		r := config.Route{Outbound: *d.outbound(fmt.Sprintf("routes[%d].use", i))}
		for range 1 + d.IntN(3) {
			r.Hosts = append(r.Hosts, d.pattern(someNames, someWild, someNets, []string{"*"}))
		}
		c.Routes = append(c.Routes, r)
	}
	return c
}

// saw is what a router says, in the oracle's terms.
func saw(t *testing.T, r *router.Router, host string, port uint16, hint router.Hint) verdict {
	t.Helper()
	got, err := r.Route(host, port, hint)
	x := r.Explain(host, port, hint)
	if fmt.Sprint(x.Route, x.Err) != fmt.Sprint(got, err) || x.Target.Host == "" {
		t.Errorf("Route gives %v, %v, Explain %v, %v", got, err, x.Route, x.Err)
	}
	var denied *router.Denied
	switch {
	case errors.As(err, &denied):
		d := denied.Target
		return verdict{refused: true, exchange: d.Exchange, kind: d.Kind, trusted: d.Trusted}
	case err != nil:
		t.Fatal(err)
	}
	return verdict{pool: got.Pool.Name(), timeout: got.Timeout, exchange: got.Target.Exchange, kind: got.Target.Kind, trusted: got.Target.Trusted}
}

// TestAgreesWithOracle compares the router, whose names are all worked out
// beforehand, with one that tries each rule in turn.
func TestAgreesWithOracle(t *testing.T) {
	const configs, seed = 600, 20261125
	refused := map[bool]int{}
	for i := range uint64(configs) {
		d := dice{rand.New(rand.NewPCG(seed, i))}
		c := d.config()
		r := build(t, c)
		hosts := append(append([]string{}, someNames...), someAddrs...)
		for _, w := range someWild {
			hosts = append(hosts, "zz"+w[1:], "y.zz"+w[1:])
		}
		for _, host := range hosts {
			hint := router.Hint{
				Listener: one(d, append([]string{"", "127.0.0.1:9"}, someListens...)),
				Kind:     one(d, append([]catalog.Kind{catalog.KindUnknown}, someKinds...)),
			}
			port := one(d, []uint16{443, 443, 443, 443, 9443, 25})
			h, err := target.ParseHost(host)
			if err != nil {
				t.Fatal(err)
			}
			want, got := judge(c, h, port, hint), saw(t, r, host, port, hint)
			if got != want {
				t.Fatalf("seed %d: %s:%d with %+v\ngot  %+v\nwant %+v\nof %s", i, host, port, hint, got, want, config.Print(c))
			}
			refused[got.refused]++
		}
	}
	if n := refused[true] + refused[false]; refused[true] < n/20 || refused[false] < n/20 {
		t.Errorf("%d refused, %d not: the configurations are all alike", refused[true], refused[false])
	}
}
