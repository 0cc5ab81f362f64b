package e2e

import (
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// once asks in every protocol and wants a refusal that comes at once, and not
// when a budget is spent.
func once(t *testing.T, all ...*proxyd) {
	t.Helper()
	for _, protocol := range asking {
		_, reply := testkit.Open(t, all[0].Addr, testkit.Ask{Protocol: protocol, Target: target})
		if reply.OK || reply.Closed || reply.Took > soon {
			t.Errorf("%s: %v after %v", protocol, reply, reply.Took)
		}
		if protocol.HTTP() && !strings.Contains(reply.Reason, "403") && !strings.Contains(reply.Body, "loop") {
			t.Errorf("%s: nothing says that it is a loop: %v", protocol, reply)
		}
	}
	c := testkit.Dial(t, all[0].Addr)
	c.Send("GET http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\n\r\n")
	if reply := c.ReadHTTP("GET"); !strings.HasPrefix(reply.Header.Get("X-Proxyd-Error"), "class=denied ") {
		t.Errorf("GET: %v", reply)
	}
	for _, p := range all {
		if n := strings.Count(p.Log.String(), `"msg":"refused"`); n > 2*len(asking)+2 {
			t.Errorf("%d requests were refused in all: it went round\n%s", n, p.Log)
		}
	}
}

func TestProxydAsItsOwnUpstream(t *testing.T) {
	t.Parallel()
	p := start(t, "default: reject\n")
	p.apply(t, "default: http://"+p.Addr+"\n")
	once(t, p)
}

// Promise (security): a loop of proxies is refused.
func TestTwoDaemonsAsEachOthersUpstream(t *testing.T) {
	t.Parallel()
	a := start(t, "default: reject\n")
	b := start(t, "default: http://"+a.Addr+"\n")
	a.apply(t, "default: http://"+b.Addr+"\n")
	once(t, a, b)
}

// SOCKS has no place for a mark. Such a loop ends with the budget of the first
// request, and with it all that it has opened.
func TestALoopBySOCKSEndsWithItsBudget(t *testing.T) {
	echo := testkit.NewTCP(t, testkit.Echo)
	const here = loopback + "exchanges: {here: {hosts: [localhost], http: direct}}\n"
	a := start(t, here)
	b := start(t, "default: {url: \"socks5://"+a.Addr+"\", timeout_seconds: 1}\n")
	a.apply(t, here+"default: {url: \"socks5://"+b.Addr+"\", timeout_seconds: 1}\n")
	_, reply := testkit.Open(t, a.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
	if reply.OK || reply.Closed || reply.Took > soon {
		t.Errorf("%v after %v", reply, reply.Took)
	}
	testkit.Eventually(t, testkit.Patience, "it serves again", func() bool {
		c, reply := testkit.Open(t, a.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "localhost:" + testkit.Port(echo.Addr)})
		defer c.Close()
		return reply.OK
	})
	for _, p := range []*proxyd{a, b} {
		p.stop() // and nothing is left running: TestMain looks
	}
}

// proxyd's own address as a SOCKS upstream is known to be a loop at the dial.
func TestProxydAsItsOwnSOCKSUpstream(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"socks5", "socks4a"} {
		p := start(t, "default: reject\n")
		p.apply(t, "default: "+scheme+"://"+p.Addr+"\n")
		_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
		if reply.OK || reply.Took > soon {
			t.Errorf("%s: %v after %v", scheme, reply, reply.Took)
		}
	}
}
