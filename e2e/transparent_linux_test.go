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
	again, reply := testkit.Open(t, p.Addr, ask)
	if !reply.OK {
		t.Fatal(reply)
	}
	echoes(t, again, 1000)
}
