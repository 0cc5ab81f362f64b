package dialer

import (
	"net/netip"
	"syscall"
	"testing"

	"proxyd/internal/testkit"
)

// One source address is not spent by 28,000 connections: no port is bound
// before connect, so it may serve for several targets at the same time.
func TestSourceAddressSharesItsPorts(t *testing.T) {
	far := testkit.NewTCP(t, testkit.Hang)
	d := &Dialer{Source: netip.MustParseAddr("127.0.0.2")}
	conn, err := d.Dial(within(t, testkit.Patience), addrs("127.0.0.1"), portOf(t, far.Addr))
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
	conn, err := (&Dialer{}).Dial(within(t, testkit.Patience), addrs("127.0.0.1"), portOf(t, far.Addr))
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
