package e2e

import (
	"testing"

	"proxyd/internal/testkit"
)

// A client that goes away while its way is being made stops that: the upstream
// sees the end at once, and no other is tried.
func TestAClientThatLeavesStopsTheDial(t *testing.T) {
	t.Parallel()
	requests := map[string]string{
		"CONNECT": "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n",
		"GET":     "GET http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\n\r\n",
		"SOCKS4a": "\x04\x01\x01\xbb\x00\x00\x00\x01\x00api.binance.com\x00",
		"SOCKS5":  "\x05\x01\x00",
	}
	leave := map[string]func(*testkit.Conn){
		"by a FIN": func(c *testkit.Conn) { _ = c.Close() }, "by a reset": (*testkit.Conn).Reset, "by a half-close": (*testkit.Conn).CloseWrite,
	}
	for scheme, stage := range map[string]testkit.Stage{"http": testkit.AtRequest, "socks5": testkit.AtGreeting, "socks4a": testkit.AtRequest, "https": testkit.AtAccept} {
		for how, leave := range leave {
			for protocol, request := range requests {
				if protocol == "GET" && how == "by a half-close" {
					continue // it may still want its answer
				}
				t.Run(scheme+", "+protocol+", "+how, func(t *testing.T) {
					t.Parallel()
					up := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: scheme, Fault: testkit.On(stage, testkit.Hang)})
					next := testkit.NewProxy(t, testkit.ProxyOptions{})
					p := start(t, "attempt_seconds: 9\nlog: {level: debug}\npools: {p: {strategy: failover, proxies: [\""+up.URL()+"\", \""+next.URL()+"\"]}}\n"+
						"exchanges: {binance: {http: {pool: p, timeout_seconds: 20}}}\n")
					c := testkit.Dial(t, p.Addr)
					c.Send(request)
					if protocol == "SOCKS5" {
						c.Expect("\x05\x00")
						c.Send("\x05\x01\x00\x03\x0fapi.binance.com\x01\xbb")
					}
					testkit.Eventually(t, testkit.Patience, "the upstream is dialled", func() bool { return up.Open() == 1 })
					leave(c)
					testkit.Eventually(t, 2*soon, "the upstream sees the end", func() bool { return up.Open() == 0 })
					if p.waitLine("client_gone") == "" {
						t.Errorf("nothing in the log:\n%s", p.Log)
					}
					if p.line(`"level":"warn"`, `"msg":"refused"`) != "" {
						t.Errorf("somebody is blamed:\n%s", p.Log)
					}
					if n := next.Accepted(); n > 0 || up.Accepted() != 1 {
						t.Errorf("it went on: %d and %d connections", up.Accepted(), n)
					}
				})
			}
		}
	}
}

// So does one that goes away later.
func TestAClientThatLeavesATunnelEndsIt(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*testkit.Conn){"by a FIN": func(c *testkit.Conn) { _ = c.Close() }, "by a reset": (*testkit.Conn).Reset} {
		server := testkit.NewTCP(t, testkit.Hang)
		p := start(t, loopback+"default: direct\n")
		for _, protocol := range asking {
			c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: server.Addr})
			if !reply.OK {
				t.Fatal(reply)
			}
			leave(c)
			testkit.Eventually(t, 2*soon, name+": the server sees the end", func() bool { return server.Open() == 0 })
		}
	}
}
