// Package demo shows proxyd at work on one machine: fake exchanges behind fake
// upstream proxies, a real daemon with a configuration of its own between them and
// a few feeds that stream through it. All of it is in this process and on the
// loopback address; nothing is sent to any other machine. It is no part of a
// running proxyd, and its fakes are not those of the tests (internal/testkit).
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"proxyd/internal/daemon"
)

// Options are what the command line says.
type Options struct {
	Out     io.Writer                   // the guide, and line 1 of the status when it changes
	Program string                      // how a shell calls this program
	Quote   func(words []string) string // one line of the shell that the guide is for
	Curl    []string                    // how that shell calls curl, for addresses of this machine
	Version string
}

// demo is what one run consists of.
type demo struct {
	options   Options
	dir       string // holds all files; removed at the end
	exchanges []*exchange
	upstreams []*upstream
	control   net.Listener
	listen    string // proxyd's address for clients
	admin     string
	daemon    *daemon.Daemon
	log       *os.File
}

// Run shows the demo until ctx ends; then it removes what it has made. An error
// says why it could not begin.
func Run(ctx context.Context, o Options) error {
	dir, err := os.MkdirTemp("", "proxyd-demo-")
	if err != nil {
		return fmt.Errorf("%w; set TMPDIR to a directory that can be written", err)
	}
	d := &demo{options: o, dir: dir}
	defer d.remove()
	authority, err := newCA(d.path("ca.pem"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var fakes sync.WaitGroup // each ends with ctx
	defer func() {
		cancel()
		fakes.Wait()
	}()
	if err := d.startFakes(ctx, &fakes, authority); err != nil {
		return err
	}
	if err := d.newDaemon(); err != nil {
		return err
	}
	return d.run(ctx, authority)
}

// path returns the path of one of the demo's files.
func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// remove removes the demo's files.
func (d *demo) remove() {
	if d.log != nil {
		_ = d.log.Close()
	}
	_ = os.RemoveAll(d.dir)
}

// startFakes starts the exchanges, the upstreams and the control address. All end
// with ctx.
func (d *demo) startFakes(ctx context.Context, running *sync.WaitGroup, authority *ca) error {
	addresses := map[string]string{}
	for _, x := range []*exchange{
		{id: "bitget", stream: "ws.bitget.com", rest: "api.bitget.com"},
		{id: "deribit", stream: "streams.deribit.com", rest: "www.deribit.com"},
		{id: "bitstamp", stream: "ws.bitstamp.net", rest: "www.bitstamp.net"},
	} {
		if err := x.start(ctx, running, authority); err != nil {
			return err
		}
		addresses[x.stream], addresses[x.rest] = x.address, x.address
		d.exchanges = append(d.exchanges, x)
	}
	for _, name := range []string{"tokyo-1", "osaka-1", "newyork-1"} {
		u := &upstream{name: name, leads: addresses}
		if err := u.start(ctx, running); err != nil {
			return err
		}
		d.upstreams = append(d.upstreams, u)
	}
	var err error
	if d.control, err = net.Listen("tcp", loopback); err != nil {
		return err
	}
	serveHTTP(ctx, running, d.control, d.controls())
	return nil
}

// loopback is any free port of this machine.
const loopback = "127.0.0.1:0"

// serveHTTP serves on ln until ctx ends.
func serveHTTP(ctx context.Context, running *sync.WaitGroup, ln net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: silent}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	running.Go(func() { _ = srv.Serve(ln) }) // ends with Close
}

// newDaemon writes the configuration and binds its addresses. Another program may
// take a port between the choice and the bind, so there are several attempts.
func (d *demo) newDaemon() (err error) {
	if d.log, err = os.OpenFile(d.path("proxyd.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	for range 5 {
		if d.listen, d.admin, err = freePorts(); err != nil {
			return err
		}
		if err = os.WriteFile(d.path("proxyd.yaml"), []byte(d.configuration()), 0o600); err != nil {
			return err
		}
		d.daemon, err = daemon.New(daemon.Options{ConfigPath: d.path("proxyd.yaml"), Stderr: d.log, PartOf: "proxyd demo", Version: d.options.Version})
		if err == nil {
			return nil
		}
	}
	return err
}

// freePorts returns two addresses on which nothing listens.
func freePorts() (string, string, error) {
	a, err := net.Listen("tcp", loopback)
	if err != nil {
		return "", "", err
	}
	defer a.Close()
	b, err := net.Listen("tcp", loopback)
	if err != nil {
		return "", "", err
	}
	defer b.Close()
	return a.Addr().String(), b.Addr().String(), nil
}

// configuration returns the text of proxyd.yaml.
func (d *demo) configuration() string {
	return fmt.Sprintf(`# Written by proxyd demo, and removed when it ends. Change and save it: it applies at once.
listen: %s
admin: %s
log: {format: console}
default: reject                   # nothing leaves this machine

pools:
  asia:
    strategy: failover            # tokyo-1; if it fails, osaka-1
    proxies:
      - {name: tokyo-1, url: "http://%s"}
      - {name: osaka-1, url: "http://%s"}
    eject: {base_seconds: 1, max_seconds: 5}
  us:
    proxies: [{name: newyork-1, url: "http://%s"}]
    eject: {base_seconds: 1, max_seconds: 5}

exchanges:
  bitget: asia
  deribit: asia
  bitstamp: us

silence: {window_seconds: 5, bytes: 200}   # fewer bytes than that in 5 s: the feed is silent
drain_seconds: 1
`, d.listen, d.admin, d.upstreams[0].address, d.upstreams[1].address, d.upstreams[2].address)
}

// run serves until ctx ends, with feeds through the daemon.
func (d *demo) run(ctx context.Context, authority *ca) error {
	stopped := make(chan error, 1)
	daemonCtx, stop := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the feeds, to end without refusals
	defer stop()
	go func() { stopped <- d.daemon.Run(daemonCtx, daemon.Signals{}) }() // ends with daemonCtx; awaited below
	var clients sync.WaitGroup                                           // each ends with ctx
	for _, x := range d.exchanges {
		for n := range feedsEach {
			f := newFeed(d.listen, x, n+1, authority)
			clients.Go(func() { f.run(ctx) })
		}
	}
	_, err := io.WriteString(d.options.Out, d.guide())
	if err == nil {
		d.watch(ctx)
	}
	<-ctx.Done()
	clients.Wait()
	stop()
	return errors.Join(err, <-stopped)
}
