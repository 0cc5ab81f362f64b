package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// Metrics name the exchange that is lost, the upstream of each request, and who ended
// a tunnel, from the first request on; and say when the exchange is back.
//
// Promise (feeds): the metrics say of each configured exchange and kind whether it is lost, as line 1 of the status does.
func TestMetricsOfALostExchange(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": echo.Addr}})
	socket := filepath.Join(t.TempDir(), "admin")
	p := launch(t, "", fmt.Sprintf(`admin: unix:%s
pools: {asia: {proxies: [{name: tokyo-1, url: %q}]}}
exchanges: {binance: asia, okx: asia}
default: reject
`, socket, up.URL()))
	shows := func(want ...string) {
		t.Helper()
		for _, w := range want {
			testkit.Eventually(t, testkit.Patience, w, func() bool {
				return strings.Contains("\n"+p.admin(t, socket, "/metrics"), "\n"+w+"\n")
			})
		}
	}
	asks := func(target string, ok bool) *testkit.Conn {
		t.Helper()
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
		if reply.OK != ok {
			t.Fatalf("%s: %+v", target, reply)
		}
		return c
	}
	lost := func(exchange, kind string, n int) string {
		return fmt.Sprintf(`proxyd_exchange_lost{exchange=%q,kind=%q} %d`, exchange, kind, n)
	}
	shows(lost("binance", "http", 0), lost("binance", "websocket", 0), lost("okx", "http", 0), lost("okx", "websocket", 0))

	up.SetFault(&testkit.Fault{At: testkit.AtRequest, Do: testkit.Answer("403 Forbidden", "no"), Host: "stream.binance.com"})
	okx := asks("ws.okx.com:8443", true)
	okx.Send("hello")
	okx.Expect("hello")
	asks("example.com:443", false).Close()
	for range 3 {
		asks("stream.binance.com:9443", false).Close()
	}
	shows(lost("binance", "websocket", 1), lost("okx", "websocket", 0), `proxyd_events_total{severity="error",type="exchange_lost"} 1`,
		`proxyd_requests_total{exchange="none",kind="http",outcome="denied",upstream=""} 1`,
		`proxyd_requests_total{exchange="binance",kind="websocket",outcome="upstream_denied",upstream="tokyo-1"} 3`,
		`proxyd_requests_total{exchange="okx",kind="websocket",outcome="ok",upstream="tokyo-1"} 1`,
		`proxyd_tunnel_bytes_total{direction="down",exchange="okx",kind="websocket",upstream="tokyo-1"} 5`,
		`proxyd_feed_silent{exchange="okx",kind="websocket",upstream="tokyo-1"} 0`)
	if out, _ := p.command(t, "status"); !strings.HasPrefix(out, "BAD: binance websocket: ") {
		t.Errorf("the first line of status is not that exchange:\n%s", out)
	}
	if metrics := p.admin(t, socket, "/metrics"); !strings.Contains(metrics, `proxyd_feed_last_byte_timestamp_seconds{exchange="okx",kind="websocket",upstream="tokyo-1"} 1.`) {
		t.Error("the time of the last byte is not there")
	}
	okx.Close()
	shows(`proxyd_tunnel_closed_total{closed_by="client",exchange="okx",kind="websocket",reason="eof",upstream="tokyo-1"} 1`,
		`proxyd_tunnels_active{exchange="okx",kind="websocket",upstream="tokyo-1"} 0`)

	up.SetFault(nil)
	testkit.Eventually(t, testkit.Patience, "the upstream is used again", func() bool {
		_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "stream.binance.com:9443"})
		return reply.OK
	})
	shows(lost("binance", "websocket", 0))
}
