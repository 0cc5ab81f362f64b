package upstream

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// All of 127.0.0.0/8 is this machine's on linux alone.
func TestSourceAddress(t *testing.T) {
	seen := make(chan string, 1)
	far := testkit.NewTCP(t, func(c net.Conn) { seen <- c.RemoteAddr().(*net.TCPAddr).IP.String() })
	for _, name := range []string{"127.0.0.2", "127.1.2.3"} {
		t.Run(name, func(t *testing.T) {
			s := load(t, "allow_private: [127.0.0.0/8]\ndefault: direct://"+name+"\n", nil)
			way := open(t, only(t, s), at(far.Addr))
			defer way.Release()
			if got := <-seen; got != name {
				t.Errorf("it came from %s", got)
			}
		})
	}
}

// One source address is not spent by 28,000 connections: no port is bound
// before connect, so it may serve for several targets at once.
func TestSourceAddressSharesItsPorts(t *testing.T) {
	far := testkit.NewTCP(t, testkit.Hang)
	d := &dialer{source: netip.MustParseAddr("127.0.0.2")}
	conn, err := d.dial(budget(t, testkit.Patience), addrs("127.0.0.1"), portOf(t, far.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		on, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IP, ipBindAddressNoPort)
		if err != nil || on != 1 {
			t.Errorf("IP_BIND_ADDRESS_NO_PORT is %d, %v", on, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// What a connection out is set to: nothing is held back, a dead peer is found.
func TestSocketOptions(t *testing.T) {
	far := testkit.NewTCP(t, testkit.Hang)
	conn, err := (&dialer{}).dial(budget(t, testkit.Patience), addrs("127.0.0.1"), portOf(t, far.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	options := []struct {
		name        string
		level, what int
		want        int
	}{
		{"TCP_NODELAY", syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
		{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
		{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 10},
		{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
	}
	if err := raw.Control(func(fd uintptr) {
		for _, o := range options {
			if got, err := syscall.GetsockoptInt(int(fd), o.level, o.what); err != nil || got != o.want {
				t.Errorf("%s is %d, %v; want %d", o.name, got, err, o.want)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// A source address or an interface that is not here is our own machine's fault.
func TestSourceNotHere(t *testing.T) {
	far := testkit.NewTCP(t, testkit.Hang)
	for _, tt := range []struct{ url, text string }{
		{"direct://192.0.2.77", "the source address is not on this machine"},
		{"direct://127.0.0.1?interface=nosuch0", "interface nosuch0 does not exist here"},
	} {
		t.Run(tt.url, func(t *testing.T) {
			s := load(t, "allow_private: [127.0.0.0/8]\ndefault: "+tt.url+"\n", nil)
			e := denied(t, only(t, s), at(far.Addr), testkit.Patience, failure.Local)
			want := tt.text
			if errors.Is(e, syscall.EPERM) { // a kernel that lets only root choose an interface
				want = "this machine does not permit the connection"
			}
			if !strings.Contains(e.Text, want) {
				t.Errorf("got %q, want %q", e.Text, want)
			}
		})
	}
}
