package router_test

import (
	"errors"
	"fmt"
	"testing"

	"proxyd/internal/catalog"
	"proxyd/internal/router"
	"proxyd/internal/target"
)

// FuzzRoute looks up whatever a client may send. The router must not panic,
// must agree with the oracle, must read its own spelling of a host as the same
// host, and must put nothing into its words that cannot stand in a header.
func FuzzRoute(f *testing.F) {
	for _, host := range append(append([]string{"", ".", "API.Binance.com.", "[::1]", "[2001:db8::1", "1.2.3", "0x7f.1", "bücher.example", "xn--bcher-kva.example",
		"a\x00b", "a b", "user@host", "%", "*.x.example", "fe80::1%eth0", "ａｐｉ．binance。com"}, someNames...), someAddrs...) {
		f.Add(host, uint16(443), uint8(0), uint8(0))
		f.Add(host, uint16(25), uint8(2), uint8(2))
	}
	f.Add("api.gateio.ws", uint16(0), uint8(1), uint8(9))
	r := load(f, `
listen: [{address: 127.0.0.1:7000, kind: websocket}, {address: 127.0.0.1:7001, use: {pool: asia, timeout_seconds: 9}}]
default: {websocket: asia}
exchanges:
  binance: {http: direct, websocket: asia}
  gateio: {websocket: europe}
  kucoin: reject
  venue: {hosts: ["*.x.example", "*.bücher.example"], http: europe}
routes:
  - {hosts: ["*.a.x.example", 10.1.0.0/16], use: reject}
  - {hosts: [push9.kucoin.com, 10.0.0.0/8, "2001:db8::/32"], use: direct}
`)
	listeners := append([]string{"", "127.0.0.1:9"}, someListens...)
	f.Fuzz(func(t *testing.T, host string, port uint16, listener, kind uint8) {
		hint := router.Hint{Listener: listeners[int(listener)%len(listeners)], Kind: catalog.Kind(kind)}
		got, err := r.Route(host, port, hint)
		var bad *router.BadTarget
		if errors.As(err, &bad) {
			if port != 0 {
				if h, err := target.ParseHost(host); err == nil {
					t.Fatalf("%q is the host %v, yet: %v", host, h, bad)
				}
			}
			printable(t, bad.Error())
			return
		}
		said, at := fmt.Sprint(got, err), got.Target
		var denied *router.Denied
		if errors.As(err, &denied) {
			at = denied.Target
			printable(t, denied.Text)
			printable(t, denied.Hint)
			printable(t, denied.Rule)
		} else if err != nil || got.Pool == nil {
			t.Fatalf("%q: a %T, pool %v", host, err, got.Pool)
		}
		printable(t, at.Host)
		printable(t, got.Rule)
		h, err := target.ParseHost(host)
		if err != nil || h.Name != at.Host || h.IP != at.IP {
			t.Fatalf("%q is %+v, %v; the route is for %+v", host, h, err, at)
		}
		again, err := r.Route(at.Host, port, hint)
		if s := fmt.Sprint(again, err); s != said {
			t.Errorf("%q: %s\n%q: %s", host, said, at.Host, s)
		}
		if want, got := judge(r.Config(), h, port, hint), saw(t, r, host, port, hint); got != want {
			t.Errorf("%q: got %+v, want %+v", host, got, want)
		}
	})
}

func printable(t *testing.T, s string) {
	t.Helper()
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			t.Fatalf("%q has a byte that no header takes", s)
		}
	}
}
