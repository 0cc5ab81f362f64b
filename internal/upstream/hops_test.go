package upstream

import (
	"net"
	"testing"
)

// A hop at any address of this machine is beside us, not only one on loopback:
// two daemons may be each other's upstream by the machine's own name.
func TestHopsOnThisMachineAreMarked(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip := a.(*net.IPNet).IP
		if ip.IsLinkLocalUnicast() { // needs a zone
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if !isBeside(c) {
			t.Errorf("%s is not known as this machine", ip)
		}
	}
}
