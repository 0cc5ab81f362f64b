package e2e

import (
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// A listener becomes a transparent one by a reload, and one for clients again. What is
// not redirected to it is refused, and the reason is in the answer, the log and an event.
func TestTransparentListenerByReload(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	p := start(t, loopback+"listen: [\"127.0.0.1:0\"]\n")
	ask := testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr}
	c, reply := testkit.Open(t, p.Addr, ask)
	if !reply.OK {
		t.Fatal(reply)
	}
	p.apply(t, loopback+"listen: [{address: \"127.0.0.1:0\", transparent: true}]\n")
	refused, reply := testkit.Open(t, p.Addr, ask)
	defer refused.Close()
	if reply.OK || !strings.Contains(reply.String(), "403") {
		t.Errorf("a connection that was not redirected: %v", reply)
	}
	echoes(t, c, 1000) // a good tunnel stays
	for _, want := range [][]string{
		{`"msg":"refused"`, `"protocol":"transparent"`, "proxy_loop_detected: the connection was not redirected here"},
		{`"msg":"event"`, `"type":"refused"`},
	} {
		if p.waitLine(want...) == "" {
			t.Errorf("not in the log: %v\n%s", want, p.Log)
		}
	}
	p.apply(t, loopback+"listen: [\"127.0.0.1:0\"]\n")
	if want := []string{`"level":"warn"`, `"type":"listener"`, "no transparent listener has port", "nft delete table inet proxyd"}; p.waitLine(want...) == "" {
		t.Errorf("not in the log: %v\n%s", want, p.Log)
	}
	again, reply := testkit.Open(t, p.Addr, ask)
	if !reply.OK {
		t.Fatal(reply)
	}
	echoes(t, again, 1000)
}

// A transparent listener is handed over in an upgrade, and goes on as one.
func TestTransparentListenerIsHandedOver(t *testing.T) {
	t.Parallel()
	s := startService(t, "listen: [{address: \"127.0.0.1:0\", transparent: true}]\n")
	before, _ := s.command(t, "status")
	s.upgrade(t, 0)
	after, code := s.command(t, "status")
	for _, status := range []string{before, after} {
		if !strings.Contains(status, "for redirected connections") {
			t.Errorf("exit code %d: %s", code, status)
		}
	}
	refused, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "127.0.0.1:1"})
	defer refused.Close()
	if reply.OK || !strings.Contains(reply.String(), "403") {
		t.Error(reply)
	}
	testkit.Eventually(t, testkit.Patience, "the refusal is in the log", func() bool {
		return strings.Contains(s.Log.String(), "proxy_loop_detected: the connection was not redirected here")
	})
}
