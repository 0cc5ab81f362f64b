package dialer

import (
	"net"
	"net/netip"
	"testing"

	"proxyd/internal/testkit"
)

func TestOutgoingKnowsOpenConnections(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::]:0") // a socket for both families has IPv4 addresses in IPv6 form
	if err != nil {
		testkit.Lacks(t, "IPv6: "+err.Error())
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	var o Outgoing
	from, to := far.RemoteAddr().(*net.TCPAddr).AddrPort(), far.LocalAddr().(*net.TCPAddr).AddrPort()
	if o.Has(from, to) {
		t.Error("an empty set has a connection")
	}
	remove := o.Add(conn)
	if !o.Has(from, to) {
		t.Errorf("%v to %v is not in the set", from, to)
	}
	if other := netip.AddrPortFrom(to.Addr(), to.Port()^1); o.Has(from, other) || o.Has(to, from) {
		t.Error("another connection is in the set")
	}
	remove()
	if o.Has(from, to) || len(o.open) > 0 {
		t.Error("a closed connection is in the set")
	}
}
