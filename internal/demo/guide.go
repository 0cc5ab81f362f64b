package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/config"
)

// guide returns what the demo prints: where things are, and lines to try. A line to
// try begins with four spaces.
func (d *demo) guide() string {
	var b strings.Builder
	line := func(what string, words ...string) { fmt.Fprintf(&b, "  %s\n    %s\n", what, d.options.Quote(words)) }
	proxyd := func(what string, args ...string) { line(what, slices.Concat([]string{d.options.Program}, args)...) }
	post := func(what, path string) {
		line(what, slices.Concat(d.options.Curl, []string{"-X", "POST", "http://" + d.control.Addr().String() + path})...)
	}
	file := d.path("proxyd.yaml")
	fmt.Fprintf(&b, `proxyd demo: feeds of three fake exchanges, through three fake upstream proxies. Nothing leaves this machine.

  the page         http://%s/
  proxyd           http://%s
  configuration    %s
  log              %s

Try in a second terminal:

`, d.admin, d.listen, file, d.path("proxyd.log"))
	proxyd("what it is doing", "status", "--admin", d.admin)
	proxyd("where connections go, and why", "route", "-c", file, "ws.bitget.com", "www.bitstamp.net", "tracker.example")
	line("a request of your own", d.options.Curl[0], "-x", "http://"+d.listen, "--cacert", d.path("ca.pem"), "https://www.bitstamp.net/api/v2/ticker/btcusd")
	proxyd("what happens, until Ctrl-C", "events", "--admin", d.admin, "--follow")
	b.WriteString("\nBreak it, and repair it. Line 1 of the status is printed below when it changes:\n\n")
	post("an upstream dies: DEGRADED; its feeds connect again, through osaka-1", "/upstreams/tokyo-1/down")
	post("the other one too: BAD, bitget and deribit are lost within 5 s", "/upstreams/osaka-1/down")
	post("one works again: the feeds are back within 10 s", "/upstreams/osaka-1/up")
	post("both work: ok within 20 s", "/upstreams/tokyo-1/up")
	post("bitget sends nothing, its connections stay open: BAD, silent within 10 s", "/exchanges/bitget/freeze")
	post("it sends again: ok within 5 s", "/exchanges/bitget/thaw")
	b.WriteString("\nCtrl-C ends all of it and removes its files.\n\n")
	return b.String()
}

// watchEvery is the time between two looks at the status.
const watchEvery = 250 * time.Millisecond

// watch prints line 1 of the daemon's status when it changes, until ctx ends.
func (d *demo) watch(ctx context.Context) {
	client, last := admin.NewClient(d.admin, config.Secret{}), ""
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case at := <-ticker.C:
			status, err := client.Status(ctx)
			if err != nil {
				continue // it has just started, or ends
			}
			line := "ok"
			if problems := status.Problems(); len(problems) > 0 {
				line = problems[0]
			}
			if shape := withoutNumbers(line); shape != last {
				last = shape
				fmt.Fprintf(d.options.Out, "%s  %s\n", at.Format("15:04:05"), line)
			}
		}
	}
}

// withoutNumbers returns a line without its digits: counts and times change each
// second.
func withoutNumbers(line string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, line)
}
