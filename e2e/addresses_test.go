//go:build unix

package e2e

import (
	"net"
	"syscall"
	"testing"

	"proxyd/internal/testkit"
)

// An address that was closed for another one is open again when the whole is
// rejected for a third one.
func TestRejectedReloadKeepsOldAddress(t *testing.T) {
	t.Parallel()
	echo, port := testkit.NewTCP(t, testkit.Echo), freePort(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	p := launch(t, "", loopback+"listen: [\"127.0.0.1:"+port+"\"]\n")
	saving(loopback+"watch: false\nadmin: \"\"\nlisten: [{address: \"0.0.0.0:"+port+"\", allow: [127.0.0.0/8]}, \""+taken.Addr().String()+"\"]\n")(t, p.File)
	p.signal(t, syscall.SIGHUP, reloadRefused)
	works(p.tunnel(t, echo.Addr))
	saving(loopback+"watch: false\nadmin: \"\"\nlisten: [\"127.0.0.1:"+port+"\"]\n")(t, p.File)
	p.signal(t, syscall.SIGHUP, reloaded)
	works(p.tunnel(t, echo.Addr))
}

// One address for all replaces both built-in addresses, and they come back.
func TestAllAddressesOfAPortBecomeOne(t *testing.T) {
	t.Parallel()
	echo, port := testkit.NewTCP(t, testkit.Echo), freePort(t)
	two := "listen: [\"127.0.0.1:" + port + "\", \"127.0.0.2:" + port + "\"]\n"
	p := launch(t, "", loopback+two)
	saving(loopback+"watch: false\nadmin: \"\"\nlisten: [{address: \":"+port+"\", allow: [127.0.0.0/8]}]\n")(t, p.File)
	p.signal(t, syscall.SIGHUP, reloaded)
	works(p.tunnel(t, echo.Addr))
	saving(loopback+"watch: false\nadmin: \"\"\n"+two)(t, p.File)
	p.signal(t, syscall.SIGHUP, reloaded)
	works(p.tunnel(t, echo.Addr))
}

// The admin server's port moves to another address too, and stays where it is
// when the whole is rejected.
func TestTheAdminPortMovesToAnotherAddress(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := freePort(t)
	p := launch(t, "", loopback+"admin: 127.0.0.1:"+port+"\n")
	asks := func(host string) {
		t.Helper()
		c := testkit.Dial(t, host+":"+port)
		c.Send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if r := c.ReadHTTP("GET"); r.Status != 200 {
			t.Error(r)
		}
	}
	asks("127.0.0.1")
	saving(loopback+"watch: false\nadmin: 0.0.0.0:"+port+"\nlisten: \""+taken.Addr().String()+"\"\n")(t, p.File)
	p.signal(t, syscall.SIGHUP, reloadRefused)
	asks("127.0.0.1")
	saving(withListen(loopback+"admin: 0.0.0.0:"+port+"\n"))(t, p.File)
	p.signal(t, syscall.SIGHUP, reloaded)
	asks("127.0.0.2")
}
