package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
	"proxyd/internal/testkit"
)

// atBoth runs a test over TCP and over a unix socket.
func atBoth(t *testing.T, o Options, run func(t *testing.T, c *Client)) {
	t.Helper()
	for name, address := range map[string]string{"tcp": "", "unix": "unix:" + filepath.Join(t.TempDir(), "a.sock")} {
		t.Run(name, func(t *testing.T) { run(t, NewClient(serve(t, o, address), config.Secret{})) })
	}
}

func TestClientReads(t *testing.T) {
	o, want := wellOptions(t), wellStatus()
	want.Started, want.Config.LoadedAt = time.Unix(1, 0).UTC(), time.Unix(2, 0).UTC()
	want.Upstreams = []Upstream{{Name: "tokyo-1", URL: "socks5://***@tokyo.example:1080", Pools: []string{"asia"}}}
	want.Tunnels = []Count{{Exchange: "okx", Kind: "http", Upstream: "tokyo-1", Tunnels: 7}}
	tunnel := Tunnel{ID: "1", Client: "127.0.0.1:9", Started: time.Unix(3, 0).UTC(), BytesUp: 1 << 40}
	o.Status = func() Status { return want }
	o.Tunnels = func(Filter, int) ([]Tunnel, error) { return []Tunnel{tunnel}, nil }
	atBoth(t, o, func(t *testing.T, c *Client) {
		status, err := c.Status(t.Context())
		if diff := cmp.Diff(want.filled(), status); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
		var tunnels []Tunnel
		err = c.get(t.Context(), "/api/v1/tunnels", &tunnels)
		if diff := cmp.Diff([]Tunnel{tunnel}, tunnels); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
		routes, err := c.Route(t.Context(), []string{"stream.binance.com", "a.example"}, "websocket", "127.0.0.1:8879")
		if err != nil || len(routes) != 2 || routes[0].Pool != "listen[1].use" || routes[0].Kind != "websocket" {
			t.Errorf("%v %+v", err, routes)
		}
		if err := c.Healthy(t.Context(), true, "127.0.0.1:8877"); err != nil {
			t.Error(err)
		}
		var refused *RefusedError
		if err := c.Healthy(t.Context(), false, "127.0.0.1:1"); !errors.As(err, &refused) || refused.Status != 404 {
			t.Errorf("of another one: %v", err)
		}
		if _, err := c.Route(t.Context(), []string{"a.example"}, "ftp", ""); !errors.As(err, &refused) || refused.Status != 400 {
			t.Errorf("a strange kind: %v", err)
		}
		long := slices.Repeat([]string{strings.Repeat("abcdefghi.", 25) + "a:1"}, 2*maxHosts+1)
		if routes, err := c.Route(t.Context(), long, "", ""); err != nil || len(routes) != len(long) || routes[len(long)-1].Pool != "direct" {
			t.Errorf("many: %v, %d routes", err, len(routes))
		}
	})
}

func TestClientReloads(t *testing.T) {
	var faults atomic.Pointer[[]string]
	faults.Store(&[]string{})
	o := wellOptions(t)
	o.Reload = func(ctx context.Context, dryRun bool) Report {
		if ctx.Err() != nil {
			t.Error(ctx.Err())
		}
		f := *faults.Load()
		return Report{File: "proxyd.yaml", Applied: !dryRun && len(f) == 0, Changes: []string{"+ pool asia"}, Faults: f}
	}
	atBoth(t, o, func(t *testing.T, c *Client) {
		for _, dry := range []bool{false, true} {
			faults.Store(&[]string{})
			r, err := c.Reload(t.Context(), dry)
			want := Report{File: "proxyd.yaml", Applied: !dry, Changes: []string{"+ pool asia"}}.filled()
			if diff := cmp.Diff(want, r); diff != "" || err != nil {
				t.Errorf("dry run %v: %v %s", dry, err, diff)
			}
			faults.Store(&[]string{"a: b", "c: d"})
			r, err = c.Reload(t.Context(), dry)
			var rejected *RejectedError
			if !errors.As(err, &rejected) || err.Error() != "a: b\nc: d" || r.Applied || len(r.Faults) != 2 {
				t.Errorf("dry run %v: %v %+v", dry, err, r)
			}
		}
	})
}

// A reload is finished even if the client leaves.
func TestReloadIsFinishedAfterTheClientLeaves(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(context.Context, *Client) error{
		"reload":  func(ctx context.Context, c *Client) error { _, err := c.Reload(ctx, false); return err },
		"upgrade": func(ctx context.Context, c *Client) error { return c.Upgrade(ctx, false, func(string) {}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun, ended := make(chan struct{}), make(chan error, 1)
			change := func(ctx context.Context) {
				close(begun)
				select {
				case <-ctx.Done():
				case <-time.After(500 * time.Millisecond): // the server has long seen that the client has left
				}
				ended <- ctx.Err()
			}
			o := wellOptions(t)
			o.Reload = func(ctx context.Context, _ bool) Report { change(ctx); return Report{} }
			o.Upgrade = func(ctx context.Context, _ bool, _ func(string)) error { change(ctx); return nil }
			c := NewClient(serve(t, o, ""), config.Secret{})
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-begun; cancel() }() // ends with the change's beginning
			var unreachable *UnreachableError
			if err := ask(ctx, c); !errors.As(err, &unreachable) || !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// One who asks for an upgrade and does not read its lines does not hold it up.
func TestUpgradeIsNotDelayedByASlowReader(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	o := wellOptions(t)
	o.Upgrade = func(_ context.Context, _ bool, progress func(string)) error {
		defer close(ended)
		line := strings.Repeat("x", 64<<10)
		for range 500 { // more than the sockets hold
			progress(line)
		}
		return nil
	}
	conn, err := net.Dial("tcp", serve(t, o, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /-/upgrade HTTP/1.1\r\nHost: localhost\r\nX-Proxyd: 1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(testkit.Patience):
		t.Error("the upgrade stands still")
	}
}

func TestClientUpgrades(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []string
		fails string
		want  string // the error
	}{
		{"all well", []string{"starting", "ready"}, "", ""},
		{"without a word", nil, "", ""},
		{"refused at once", nil, "another upgrade is under way\nwait", "another upgrade is under way; wait"},
		{"failed halfway", []string{"starting"}, "the new one did not come up", "the new one did not come up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, moved, heard := wellOptions(t), make(chan bool, 2), make(chan struct{}, len(c.steps))
			o.Upgrade = func(_ context.Context, move bool, progress func(string)) error {
				moved <- move
				for _, s := range c.steps {
					progress(s)
					<-heard // each line arrives before the next is written
				}
				if c.fails != "" {
					return errors.New(c.fails)
				}
				return nil
			}
			atBoth(t, o, func(t *testing.T, client *Client) {
				move := client.base == "http://localhost"
				var got []string
				err := client.Upgrade(t.Context(), move, func(s string) { got = append(got, s); heard <- struct{}{} })
				if diff := cmp.Diff(c.steps, got); diff != "" || <-moved != move {
					t.Error(diff)
				}
				var rejected *RejectedError
				if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &rejected) || err.Error() != c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			})
		})
	}
}

// A daemon that dies in the middle has not said that all went well.
func TestClientSeesAnUpgradeBreakOff(t *testing.T) {
	o := wellOptions(t)
	var s *Server
	o.Upgrade = func(_ context.Context, _ bool, progress func(string)) error {
		progress("starting")
		return s.Close()
	}
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = New(o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }() // ends with Close
	err = NewClient(ln.Addr().String(), config.Secret{}).Upgrade(t.Context(), false, func(string) {})
	var unreachable *UnreachableError
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "how the upgrade ended") {
		t.Error(err)
	}
	<-done
}

func TestClientDrains(t *testing.T) {
	o, asked := wellOptions(t), make(chan [3]any, 1)
	o.Drain = func(upstream, exchange string, on bool) error {
		asked <- [3]any{upstream, exchange, on}
		if upstream == "no-such" {
			return errors.New("there is no upstream no-such; have tokyo-1")
		}
		return nil
	}
	atBoth(t, o, func(t *testing.T, c *Client) {
		for _, x := range []struct {
			upstream, exchange string
			on                 bool
			says               string
		}{
			{"tokyo-1", "", true, "tokyo-1: no new connections; tunnels stay"},
			{"a b&c", "okx", true, "a b&c for okx: no new connections; tunnels stay"},
			{"tokyo-1", "okx", false, "tokyo-1 for okx: no longer drained"},
		} {
			said, err := c.Drain(t.Context(), x.upstream, x.exchange, x.on)
			if got := <-asked; err != nil || said != x.says || got != [3]any{x.upstream, x.exchange, x.on} {
				t.Errorf("%v %q %v", err, said, got)
			}
		}
		var rejected *RejectedError
		if _, err := c.Drain(t.Context(), "no-such", "", true); !errors.As(err, &rejected) || err.Error() != "there is no upstream no-such; have tokyo-1" {
			t.Error(err)
		}
		<-asked
		var refused *RefusedError
		if _, err := c.Drain(t.Context(), "", "", true); !errors.As(err, &refused) {
			t.Error(err)
		}
	})
}

func TestClientErrorsWithoutADaemon(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unused := closed.Addr().String()
	_ = closed.Close()
	other := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- other.Serve(ln) }() // ends with Close
	defer func() { _ = other.Close(); <-done }()
	t.Setenv("HTTP_PROXY", "http://"+ln.Addr().String()) // proxyd's own users set it
	for _, c := range []struct {
		name, address string
		refused       bool
		says          string
	}{
		{"no listener", unused, true, "is proxyd running?"},
		{"no socket", "unix:" + filepath.Join(t.TempDir(), "a.sock"), true, "--admin ADDR"},
		{"another server", ln.Addr().String(), false, "something else listens there"},
		{"no address", "127.0.0.1:8878 x", false, "that is no address"},
	} {
		_, err := NewClient(c.address, config.Secret{}).Status(t.Context())
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || unreachable.Refused != c.refused || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A socket of another user is no unknown address: the error says whom it is for, and
// what lets others in.
func TestClientErrorAtASocketOfAnotherUser(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"unix:/run/proxyd/admin.sock": "the admin address unix:/run/proxyd/admin.sock is for the user that proxyd runs as (connect: permission denied): run this as that user, or give all users of this machine a port: admin: 127.0.0.1:8878 in its file, which applies when it is saved",
		"127.0.0.1:8878":              "no answer from a proxyd at the admin address 127.0.0.1:8878: connect: permission denied; name its address: --admin ADDR",
	} {
		err := NewClient(address, config.Secret{}).unreachable(&url.Error{Op: "Get", URL: "http://x", Err: os.NewSyscallError("connect", syscall.EACCES)})
		if err.Error() != want {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestClientReachesAnUnspecifiedAddress(t *testing.T) {
	address := serve(t, wellOptions(t), "0.0.0.0:0")
	if err := NewClient("http://"+strings.Replace(address, "[::]", "0.0.0.0", 1)+"/", config.Secret{}).Healthy(t.Context(), false, ""); err != nil {
		t.Error(err)
	}
}
