package proxyclient

import (
	"flag"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/target"
	"proxyd/internal/testkit"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() == "" {
		_ = flag.Set("test.parallel", "16") // those that are parallel wait for a deadline
	}
	goleak.VerifyTestMain(m)
}

// exchange is the target of most tests. No machine here can resolve it.
var exchange = hostname("stream.venue.example", 9443)

// hostname returns a name and a port as a target.
func hostname(host string, port uint16) Addr { return Addr{target.Host{Name: host}, port} }

// address returns an address and a port as a target.
func address(addr string) Addr {
	a := netip.MustParseAddrPort(addr)
	return Addr{target.Host{Name: a.Addr().String(), IP: a.Addr()}, a.Port()}
}

// login returns the credentials for a proxy.
func login(user, password string) *Credentials {
	return newCredentials(config.URL{HasAuth: true, User: config.NewSecret(user), Password: config.NewSecret(password)})
}

// noLogin is for a proxy that is given nothing.
var noLogin = newCredentials(config.URL{})

// step is one turn of a far end: it waits for as many bytes as hear has, and then
// sends say.
type step struct{ hear, say string }

// converse returns a connection to a far end that takes these turns and then reads
// to the end. heard closes the connection and returns all that came.
func converse(t testing.TB, steps ...step) (conn net.Conn, heard func() string) {
	t.Helper()
	all := make(chan string, 1)
	far := testkit.NewTCP(t, func(c net.Conn) {
		got := &recording{Conn: c}
		for _, s := range steps {
			if _, err := io.ReadFull(got, make([]byte, len(s.hear))); err != nil {
				break
			}
			_, _ = io.WriteString(c, s.say)
		}
		testkit.Hang(got)
		all <- string(got.all)
	})
	conn, err := net.Dial("tcp", far.Addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	t.Cleanup(func() { _ = conn.Close() })
	return conn, func() string {
		_ = conn.Close()
		return <-all
	}
}

type recording struct {
	net.Conn
	all []byte
}

// Read keeps what it reads.
func (r *recording) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.all = append(r.all, p[:n]...)
	return n, err
}

// shake asks the far end of conn for a tunnel in the protocol of scheme.
func shake(conn net.Conn, scheme config.Scheme, to Addr, c *Credentials) (*handshake, *failure.Error) {
	k := &handshake{conn: conn, scheme: scheme, buf: make([]byte, 2<<10)}
	return k, k.connect(Request{To: to}, c)
}
