package handover

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// generation is a small proxyd: it takes over from a parent if there is one,
// hands over to a child on SIGUSR2, with its tunnels, and ends with its last
// tunnel. It is what a daemon has to do, and in which order.
type generation struct {
	program string
	handler *tunnel.Handler
	set     *upstream.Set
	ln      net.Listener
	upgrade Upgrader
	parent  *Parent
	serving sync.WaitGroup
	asked   chan os.Signal
}

var _ = add("generation", func() error {
	g := &generation{asked: make(chan os.Signal, 1)}
	var err error
	if g.parent, err = Inherited(ourKeepAlive); err != nil { // before all else
		return err
	}
	if g.program, err = Program(); err != nil {
		return err
	}
	if err := g.build(); err != nil {
		if g.parent != nil {
			g.parent.Failed(err)
		}
		return err
	}
	return g.run()
})

func (g *generation) build() error {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "proxyd.yaml")
	if err := os.WriteFile(path, []byte("default: direct\nroutes: [{hosts: [127.0.0.0/8], use: direct}]\n"), 0o600); err != nil {
		return err
	}
	c, err := config.Load(path, nil)
	if err != nil {
		return err
	}
	if g.set, err = upstream.NewSet(c, nil, func(netip.AddrPort) bool { return false }); err != nil {
		return err
	}
	r, err := router.New(c, g.set)
	if err != nil {
		return err
	}
	g.handler = tunnel.NewHandler(tunnel.Options{
		Snapshot: func() *router.Router { return r }, Relay: relay.NewEngine(), Record: g.record,
	})
	signal.Notify(g.asked, syscall.SIGUSR2)
	if g.parent != nil {
		g.ln = g.parent.Listeners.Take("main")
	} else if g.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	if g.ln == nil {
		return errors.New("the listener was not handed over")
	}
	return nil
}

func (g *generation) run() error {
	ctx := context.Background()
	if g.parent != nil {
		if _, err := g.parent.Ready(tunnel.Format); err != nil { // its state is that of verdicts and budgets
			return err
		}
	}
	g.serving.Go(g.accept)
	report(line{Event: "serving", Addr: g.ln.Addr().String()})
	if g.parent != nil {
		if err := g.parent.Serving(); err != nil {
			return err
		}
		if _, err := g.parent.Receive(g.adopt); err != nil {
			return err
		}
	}
	for range g.asked {
		if err := g.handOver(ctx); err != nil {
			report(line{Event: "failed", Text: err.Error()}) // and goes on
			continue
		}
		break
	}
	if err := g.handler.Wait(ctx); err != nil {
		return err
	}
	report(line{Event: "over"})
	return nil
}

// handOver is an upgrade with its tunnels.
func (g *generation) handOver(ctx context.Context) error {
	child, err := g.upgrade.Start(StartOptions{Path: g.program, Listeners: []Listener{{"main", g.ln}}})
	if err != nil {
		return err
	}
	readyCtx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := child.Ready(readyCtx); err != nil {
		return err
	}
	if err := child.Go([]byte("verdicts and budgets")); err != nil {
		return err
	}
	_ = g.ln.Close()
	g.serving.Wait() // what was accepted has its tunnel
	if child.Takes(tunnel.Format) {
		report(line{Event: "moving"})
		m, err := g.handler.Move(ctx, 50, func(parcels []tunnel.Parcel) (int, error) {
			items := make([]Item, len(parcels))
			for i, p := range parcels {
				items[i] = Item(p)
			}
			n, err := child.Move(items)
			report(line{Event: "sent", Count: n})
			return n, err
		})
		l := line{Event: "moved", Count: m.Moved, Stayed: m.Stayed, Longest: m.Longest}
		if err != nil {
			l.Text = err.Error()
		}
		report(l)
	}
	return child.Finish(nil)
}

// adopt takes a batch over.
func (g *generation) adopt(items []Item) (func(), error) {
	arrived := make([]*tunnel.Arrived, len(items))
	for i, item := range items {
		a, err := tunnel.Unpack(tunnel.Parcel(item))
		if err != nil {
			return nil, err
		}
		arrived[i] = a
	}
	return func() {
		for _, a := range arrived {
			g.handler.Adopt(a, g.set.Direct().Members()[0].Upstream, nil)
		}
		report(line{Event: "resumed", Count: len(arrived)})
	}, nil
}

// accept carries every conn to the one server that there is. Its first bytes
// stand for a request behind which more has come.
func (g *generation) accept() {
	to := netip.MustParseAddrPort(os.Getenv("HANDOVER_TEST_ADDR"))
	for {
		c, err := g.ln.Accept()
		if err != nil {
			return
		}
		g.serving.Go(func() {
			early := make([]byte, 5)
			if _, err := io.ReadFull(c, early); err != nil {
				_ = c.Close()
				return
			}
			client, _ := netip.ParseAddrPort(c.RemoteAddr().String())
			t, err := g.handler.Open(context.Background(), tunnel.Request{Client: client, Protocol: "connect", Host: to.Addr().String(), Port: to.Port()})
			if err != nil {
				_ = c.Close()
				return
			}
			t.Carry(c, early)
		})
	}
}

// line is what a generation reports to the test.
type line struct {
	PID     int
	At      time.Time
	Event   string
	Addr    string        `json:",omitempty"`
	Text    string        `json:",omitempty"`
	ID      string        `json:",omitempty"`
	Count   int           `json:",omitempty"`
	Stayed  int           `json:",omitempty"`
	Longest time.Duration `json:",omitempty"`
	Up      int64         `json:",omitempty"`
	Down    int64         `json:",omitempty"`
}

func report(l line) {
	l.PID, l.At = os.Getpid(), time.Now()
	text, _ := json.Marshal(l)
	_, _ = os.Stdout.Write(append(text, '\n')) // one write, so that lines of two processes do not mix
}

func (g *generation) record(r *tunnel.Record) {
	if r.Event == tunnel.Ended {
		report(line{Event: "ended", ID: r.ID, Text: string(r.Reason), Up: r.Up, Down: r.Down})
	}
	if r.Event == tunnel.Refused {
		report(line{Event: "refused", Text: r.Text})
	}
}
