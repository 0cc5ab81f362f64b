package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
	"proxyd/internal/health"
	"proxyd/internal/printable"
	"proxyd/internal/router"
)

// pairs probes pairs of upstream and exchange.
func (o *probeOptions) probePairs(ctx context.Context, cmd *cobra.Command) error {
	list := o.selectPairs()
	if len(list) == 0 {
		return fmt.Errorf("no upstream is used for %s: it has outbound reject, or no address to probe; see: proxyd route HOST", strings.Join(o.exchanges, ", "))
	}
	rows := make([]probeRow, len(list))
	var due []int
	requests, upstreams := 0, map[string]bool{}
	for i, p := range list {
		rows[i] = newProbeRow(p.Member.Name(), p.Member.URL())
		rows[i].Exchange, rows[i].Kind = p.Exchange, p.Kind.String()
		upstreams[p.Member.Name()] = true
		if until := o.daemon.bans[pairKey{p.Member.Name(), p.Exchange, p.Kind.String()}]; !o.force && time.Now().Before(until) {
			rows[i].skip(until)
			continue
		}
		if due = append(due, i); p.URL != "" {
			requests++
		}
	}
	o.announce("%s", o.planText(len(upstreams), requests, len(due)-requests, len(list)-len(due)))
	o.each(ctx, due, func(i int) {
		dial, a := list[i].Ask(o.snapshot.Set(), health.Exchange)
		if o.timeoutSet || a.Timeout == 0 {
			a.Timeout = o.perProbe
		}
		r := health.Probe(ctx, dial, a)
		if o.daemon.feeds[pairKey{upstream: list[i].Member.Name(), exchange: list[i].Exchange}] {
			r = r.BesideFeed(list[i].Exchange)
		}
		rows[i].fill(r)
	})
	return o.writeRows(cmd, rows)
}

// selectPairs returns the pairs that the flags select.
func (o *probeOptions) selectPairs() (list []health.Pair) {
	switch {
	case o.list != "":
		list = health.Through(o.snapshot, o.snapshot.Set().Pool(listPool), o.exchanges)
	case o.all:
		list = health.Grid(o.snapshot, o.exchanges)
	default:
		list = health.Pairs(o.snapshot, o.exchanges)
	}
	return slices.DeleteFunc(list, func(p health.Pair) bool { return !slices.Contains(o.kinds, p.Kind) })
}

// planText returns a line that says what is about to be sent.
func (o *probeOptions) planText(upstreams, requests, connections, skipped int) string {
	s := fmt.Sprintf("probing %s for %s: %s", printable.Count(upstreams, "upstream", "upstreams"), strings.Join(o.exchanges, ", "), printable.Count(requests, "request", "requests"))
	if connections > 0 {
		s += fmt.Sprintf(" and %s without a request (no address to probe is known)", printable.Count(connections, "connection", "connections"))
	}
	s += fmt.Sprintf(", at most %d at once", o.concurrency)
	if skipped > 0 {
		s += fmt.Sprintf("; %d rate-limited skipped (--force probes them too)", skipped)
	}
	return s
}

// each calls do for each of the rows, up to concurrency at once, and waits.
func (o *probeOptions) each(ctx context.Context, rows []int, do func(i int)) {
	var wg sync.WaitGroup
	next, done := make(chan int), make(chan struct{})
	for range min(o.concurrency, len(rows)) {
		wg.Go(func() { // ends when next is closed; each waits
			for i := range next {
				do(i)
				done <- struct{}{}
			}
		})
	}
	go func() { // ends when all is handed out, or done is read to the end
		defer close(next)
		for _, i := range rows {
			next <- i
		}
	}()
	for n := range rows {
		o.progress(n, len(rows))
		<-done
	}
	o.progress(len(rows), len(rows))
	wg.Wait()
}

// progressOn returns a function that shows the progress if out is a terminal.
func progressOn(out io.Writer) func(done, of int) {
	f, ok := out.(*os.File)
	if !ok || !terminal(f) {
		return func(_, _ int) {}
	}
	return func(done, of int) {
		if done == of {
			fmt.Fprint(f, "\r\033[K")
			return
		}
		fmt.Fprintf(f, "\r%d of %d", done, of)
	}
}

// probeExits finds the address that each upstream connects from.
func (o *probeOptions) probeExits(ctx context.Context, cmd *cobra.Command) error {
	to, err := health.TargetOf(o.exitIP)
	if err != nil || !isWebAddress(o.exitIP) {
		return usageError{errors.New("--exit-ip: not a URL: write https://HOST/PATH")}
	}
	route, err := o.snapshot.Route(to.Host, to.Port, router.Hint{Kind: catalog.KindHTTP})
	if err == nil {
		to.Trusted, to.Named = route.Target.Trusted, route.Target.Named
	}
	list := o.exitUpstreams()
	if len(list) == 0 {
		return errors.New("no route uses an upstream; --all includes the others")
	}
	rows := make([]probeRow, len(list))
	due := make([]int, len(list))
	for i, p := range list {
		rows[i], due[i] = newProbeRow(p.Member.Name(), p.Member.URL()), i
	}
	o.announce("requesting %s through %s: %s, at most %d at once", to.Host, printable.Count(len(list), "upstream", "upstreams"), printable.Count(len(list), "request", "requests"), o.concurrency)
	o.each(ctx, due, func(i int) {
		dial, a := list[i].Ask(o.snapshot.Set(), health.Exchange)
		a.Target, a.URL, a.Timeout = to, o.exitIP, o.perProbe
		ip, r := health.ExitIP(ctx, dial, a)
		if rows[i].fill(r); ip.IsValid() {
			rows[i].ExitIP = ip.String()
		}
	})
	return o.writeRows(cmd, rows)
}

// exitUpstreams returns the upstreams that the chosen exchanges use, once each; with
// --all or without exchanges, all of the configuration.
func (o *probeOptions) exitUpstreams() (list []health.Pair) {
	seen := map[string]bool{}
	add := func(p health.Pair) {
		if !seen[p.Member.Name()] {
			seen[p.Member.Name()] = true
			list = append(list, p)
		}
	}
	switch {
	case o.list != "":
		for _, m := range o.snapshot.Set().Pool(listPool).Members() {
			add(health.Pair{Member: m.Upstream, UserAgent: o.config.UserAgent})
		}
		return list
	case !o.all && len(o.exchanges) > 0:
		for _, p := range o.selectPairs() {
			add(p)
		}
		return list
	}
	for _, c := range o.config.Pools {
		for _, m := range o.snapshot.Set().Pool(c.Name).Members() {
			if m.Enabled {
				add(health.Pair{Member: m.Upstream, UserAgent: o.config.UserAgent})
			}
		}
	}
	return list
}
