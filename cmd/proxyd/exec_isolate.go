package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
	"proxyd/internal/child"
	"proxyd/internal/config"
	"proxyd/internal/daemon"
	"proxyd/internal/isolate"
	"proxyd/internal/printable"
)

// allowFlag is the flag by which a host is reached directly.
const allowFlag = "--allow"

// checkIsolate returns a usage error for flags that do not go together.
func (o *execOptions) checkIsolate() error {
	switch {
	case !o.isolate && len(o.hostPorts) > 0:
		return usageError{errors.New("--host-port is for --isolate; without it CMD reaches every port of this machine")}
	case !o.isolate && len(o.allow) > 0:
		return usageError{errors.New("--allow is for --isolate; without it CMD connects as it likes")}
	case o.isolate && o.daemon == "required":
		return usageError{errors.New("--isolate has an instance of its own; leave --daemon required out")}
	}
	for _, p := range o.hostPorts {
		n, err := strconv.ParseUint(p, 10, 16)
		switch {
		case err != nil || n == 0:
			return usageError{fmt.Errorf("--host-port %q is not a port: write the number alone, 1 to 65535; the port inside is the same", p)}
		case n == 53:
			return usageError{errors.New("--host-port 53: inside, this port is the name server's that --isolate has; leave it out")}
		}
		o.ports = append(o.ports, uint16(n))
	}
	slices.Sort(o.ports)
	o.ports = slices.Compact(o.ports)
	for _, a := range o.allow {
		r, err := config.DirectRoute(allowFlag, a)
		switch {
		case err != nil:
			return usageError{err}
		case r.OfLoopback():
			return usageError{fmt.Errorf("--allow %s: loopback inside is CMD's own; for a port of this machine's: --host-port PORT", a)}
		}
	}
	return nil
}

// isolated makes a network of the command's own and starts an instance that serves it.
func (o *execOptions) isolated(cmd *cobra.Command, c *config.Config, _ string, say func(string, ...any)) (*execProxy, error) {
	in := isolate.Options{Listen: []string{ownListener}, Ports: o.ports}
	for _, l := range c.Listen {
		if !l.Transparent && l.Address != ownListener { // which serves as it
			in.Listen = append(in.Listen, l.Address)
		}
	}
	for _, p := range o.ports {
		if slices.ContainsFunc(in.Listen, func(a string) bool { return portIs(a, p) }) {
			return nil, fmt.Errorf("--host-port %d is the port of a listener of %s; inside it is that listener's", p, fileOf(c))
		}
	}
	names := isolate.NewNames()
	n, err := isolate.Start(in, names)
	if err != nil {
		return nil, fmt.Errorf("--isolate: %w", err)
	}
	inside := o.inside(n, names)
	refused := make(chan admin.ExecRefusal, 64)
	inside.Refused = func(r admin.ExecRefusal) {
		select {
		case refused <- r:
		default: // the last lines have it
		}
	}
	p, err := ownDaemon(cmd, c.File, inside)
	if err != nil {
		n.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	served := make(chan struct{})
	go func() { defer close(served); n.Serve(ctx) }() // ends with ctx; stop waits for it
	p.isolated = true
	begun, stop := false, p.stop
	p.run = func(args, environ []string) (int, error) {
		begun = true
		ended, silent := make(chan struct{}), make(chan struct{})
		go func() { defer close(silent); sayRefusals(say, refused, ended) }() // ends with the command
		defer func() { close(ended); <-silent }()
		return child.Supervise(n.Command(), func() error { return started(args[0], n.Run(args, environ)) })
	}
	used := p.used
	p.used = func() (admin.Exec, error) {
		x, err := used()
		cancel()
		<-served // then the ports have counted all
		return x, err
	}
	p.others = func() ([]string, bool) { return others(n) }
	p.stop = func() error {
		cancel()
		<-served
		if !begun {
			n.Close()
		}
		return stop()
	}
	say("a network of its own, whose exit is an instance of proxyd with %s; it shares no budgets and health checks with other proxyds", fileOf(c))
	return p, nil
}

// others says what did not come through the instance of proxyd, and reports whether
// the command has connected to a port of this machine.
func others(n *isolate.Namespace) (lines []string, connected bool) {
	for _, u := range n.Ports() {
		connected = connected || u.Connections+u.Refused > 0
		line := fmt.Sprintf("--host-port %d: %s, %d refused", u.Port, printable.Count(u.Connections, "connection", "connections"), u.Refused)
		if u.Refused > 0 {
			line += ": nothing listened on that port of this machine's loopback"
		}
		lines = append(lines, line)
	}
	if closed, err := n.Closed(); err != nil {
		lines = append(lines, fmt.Sprintf("which ports of its loopback were closed is not known: %v", err))
	} else if len(closed) > 0 {
		list := strings.Trim(strings.ReplaceAll(fmt.Sprint(closed), " ", ","), "[]")
		lines = append(lines, fmt.Sprintf("the command connected to its own loopback, where nothing listened on %s; if that is a server of this machine: --host-port %[1]s", list))
	}
	if r, err := n.Refused(); err != nil {
		lines = append(lines, fmt.Sprintf("how many packets were refused inside is not known: %v", err))
	} else if r != (isolate.RefusedPackets{}) {
		lines = append(lines, "refused inside, as neither TCP nor name queries: "+refusedPackets(r))
	}
	return lines, connected
}

// refusedPackets says how many packets of what were refused.
func refusedPackets(r isolate.RefusedPackets) string {
	var parts []string
	for _, p := range []struct {
		count    int
		protocol string
	}{{r.UDP, "UDP (QUIC and others)"}, {r.Other, "other protocols"}} {
		if p.count > 0 {
			parts = append(parts, fmt.Sprintf("%s of %s", printable.Count(p.count, "packet", "packets"), p.protocol))
		}
	}
	return strings.Join(parts, ", ")
}

// ownListener is what the instance of proxyd listens on for the command's variables:
// any free port inside.
const ownListener = "127.0.0.1:0"

// inside describes a namespace to the daemon that serves it.
func (o *execOptions) inside(n *isolate.Namespace, names *isolate.Names) *daemon.Inside {
	in := &daemon.Inside{Sockets: map[string]net.Listener{}, NameOf: names.Name}
	first := []config.Listener{{Address: ownListener}}
	for _, l := range n.Transparent {
		at := l.Addr().String()
		in.Sockets[at] = l
		first = append(first, config.Listener{Address: at, Transparent: true})
	}
	kept := map[string]config.Listener{} // a listener that the file no longer has goes on: it is open
	var order []string
	for address, l := range n.Listeners {
		in.Sockets[address] = l
		if address != ownListener {
			kept[address] = config.Listener{Address: address}
			order = append(order, address)
		}
	}
	slices.Sort(order)
	in.Configure = func(c *config.Config) { // one at a time
		for _, l := range c.Listen {
			if _, ok := kept[l.Address]; ok {
				kept[l.Address] = l
			}
		}
		c.Listen = slices.Clone(first)
		for _, address := range order {
			c.Listen = append(c.Listen, kept[address])
		}
		var allowed []config.Route
		for _, a := range o.allow {
			if r, err := config.DirectRoute(allowFlag, a); err == nil { // it was checked
				allowed = append(allowed, r)
			}
		}
		c.Routes = append(allowed, c.Routes...)
	}
	return in
}

// started returns the error of a command that could not be started.
func started(name string, err error) error {
	var failed *isolate.CommandError
	if errors.As(err, &failed) {
		return &child.StartError{Name: name, Err: failed.Err}
	}
	return err
}

func portIs(address string, port uint16) bool {
	_, p, err := net.SplitHostPort(address)
	return err == nil && p == strconv.FormatUint(uint64(port), 10)
}

// fileOf names a configuration, and says what it means that there is no file.
func fileOf(c *config.Config) string {
	switch {
	case c.File != "":
		return c.File
	case c.Default == (config.Outbounds{}):
		return "the built-in defaults, by which everything goes direct"
	}
	return "the built-in defaults"
}
