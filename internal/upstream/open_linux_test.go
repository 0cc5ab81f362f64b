package upstream

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// All of 127.0.0.0/8 belongs to this machine only on Linux.
func TestSourceAddress(t *testing.T) {
	seen := make(chan string, 1)
	far := testkit.NewTCP(t, func(c net.Conn) { seen <- c.RemoteAddr().(*net.TCPAddr).IP.String() })
	for _, name := range []string{"127.0.0.2", "127.1.2.3"} {
		t.Run(name, func(t *testing.T) {
			s := load(t, "allow_private: [127.0.0.0/8]\ndefault: direct://"+name+"\n", nil)
			conn := open(t, only(t, s), at(far.Addr))
			defer conn.Release()
			if got := <-seen; got != name {
				t.Errorf("it came from %s", got)
			}
		})
	}
}

// A source address or an interface that is not here is an error of this machine.
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
