//go:build packages && linux

package packages

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"proxyd/internal/testkit"
)

const (
	proxy     = "127.0.0.1:8877" // where the packages' configuration has clients connect
	feedHost  = "feed.example"   // the host of the exchange, in the machine's /etc/hosts
	feedCount = 100
)

// feeds are live tunnels that carry all the time: one half websockets with TLS, the
// other plain TCP. What they send comes back, and each byte is compared.
type feeds struct {
	exchange *testkit.Exchange
	echo     *testkit.TCP
	carried  [feedCount]atomic.Int64 // bytes that came back
	closing  atomic.Bool
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu   sync.Mutex
	ends []error
}

// newFeeds opens all feeds.
func newFeeds(t *testing.T) *feeds {
	t.Helper()
	f := &feeds{exchange: testkit.NewExchange(t), echo: testkit.NewTCP(t, testkit.Echo)}
	ctx, cancel := context.WithCancel(t.Context())
	f.stop = cancel
	for i := range feedCount {
		talk := f.tcp
		if i%2 == 0 {
			talk = f.websocket
		}
		f.running.Go(func() { // ends with ctx, or with its connection
			if err := talk(ctx, &f.carried[i]); !f.closing.Load() {
				f.mu.Lock()
				f.ends = append(f.ends, fmt.Errorf("feed %d, after %d bytes: %w", i, f.carried[i].Load(), err))
				f.mu.Unlock()
			}
		})
	}
	t.Cleanup(func() { f.closing.Store(true); cancel(); f.running.Wait() })
	f.live(t, "the start")
	return f
}

// live fails the test if a feed has ended, or does not carry any more.
func (f *feeds) live(t *testing.T, after string) {
	t.Helper()
	for i := range f.carried {
		before := f.carried[i].Load()
		testkit.Eventually(t, testkit.Patience, fmt.Sprintf("feed %d carries after %s", i, after), func() bool {
			return f.carried[i].Load() > before || f.ended() != nil
		})
	}
	if err := f.ended(); err != nil {
		t.Fatalf("after %s: %v", after, err)
	}
	if n := f.exchange.Accepted() + f.echo.Accepted(); n < feedCount {
		t.Fatalf("after %s: the exchange has seen %d connections of %d feeds", after, n, feedCount)
	}
}

// close ends the feeds, and returns how many bytes they have carried there and back.
func (f *feeds) close() (bytes int64) {
	f.closing.Store(true)
	f.stop()
	f.running.Wait()
	for i := range f.carried {
		bytes += 2 * f.carried[i].Load()
	}
	return bytes
}

func (f *feeds) ended() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.ends...)
}

// pause is between two messages of a feed.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

var pattern = testkit.Pattern(1 << 16)

// message returns the n-th message, which begins and ends elsewhere in the pattern.
func message(n int) []byte {
	from := n * 131 % (len(pattern) - 700)
	return pattern[from : from+300+n%400]
}

func (f *feeds) websocket(ctx context.Context, carried *atomic.Int64) error {
	client := f.exchange.Client(func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, _, err := connect(ctx, f.exchange.TLS)
		return c, err
	})
	c, _, err := websocket.Dial(ctx, "wss://"+feedHost+"/echo", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseNow() }()
	for n := 0; ; n++ {
		want := message(n)
		if err := c.Write(ctx, websocket.MessageBinary, want); err != nil {
			return err
		}
		_, got, err := c.Read(ctx)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("message %d came back with other bytes", n)
		}
		carried.Add(int64(len(got)))
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func (f *feeds) tcp(ctx context.Context, carried *atomic.Int64) error {
	c, r, err := connect(ctx, f.echo.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	got := make([]byte, 1000)
	for n := 0; ; n++ {
		want := message(n)
		if _, err := c.Write(want); err != nil {
			return err
		}
		if _, err := io.ReadFull(r, got[:len(want)]); err != nil {
			return err
		}
		if !bytes.Equal(got[:len(want)], want) {
			return fmt.Errorf("message %d came back with other bytes", n)
		}
		carried.Add(int64(len(want)))
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// connect opens a tunnel to the port of target, by name.
func connect(ctx context.Context, target string) (net.Conn, *bufio.Reader, error) {
	target = net.JoinHostPort(feedHost, testkit.Port(target))
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", proxy)
	if err != nil {
		return nil, nil, err
	}
	r := bufio.NewReader(c)
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err = fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err == nil {
		var reply *http.Response
		if reply, err = http.ReadResponse(r, &http.Request{Method: http.MethodConnect}); err == nil && reply.StatusCode != http.StatusOK {
			err = errors.New(reply.Status)
		}
	}
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	return c, r, c.SetDeadline(time.Time{})
}

// newcomers open one tunnel after another until the returned function is called, which
// fails the test if one was refused.
func (f *feeds) newcomers(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var opened int
	var wrong error
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		for ; wrong == nil; opened++ {
			c, _, err := connect(context.WithoutCancel(ctx), f.echo.Addr)
			if err == nil {
				_ = c.Close()
			}
			wrong = err
			if pause(ctx) != nil {
				return
			}
		}
	}()
	return func() {
		t.Helper()
		cancel()
		<-done
		if wrong != nil {
			t.Errorf("new tunnel number %d meanwhile: %v", opened, wrong)
		}
	}
}
