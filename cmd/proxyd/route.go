package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/daemon"
	"proxyd/internal/router"
	"proxyd/internal/source"
)

func routeCommand() *cobra.Command {
	var listener, kind, format string
	var live bool
	cmd := &cobra.Command{
		Use:   "route HOST[:PORT]...",
		Short: "Explain where a host's connections go, and why",
		Long: `Explain where a host's connections go, and why: its exchange and kind, the rule
that matched, the pool and its members in order. Nothing is dialled or resolved.
The answer comes from the configuration file, or with --live from the running
daemon, which also shows the state of the members. Exit code 1 if a host would be
refused.`,
		Example: "  proxyd route stream.binance.com:9443\n  proxyd route --kind websocket api.gateio.ws\n  proxyd route --live api.kraken.com\n  proxyd route --format json api.kraken.com | jq .[0].pool",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, hosts []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			if !live && cmd.Flags().Changed("admin") {
				return usageError{errors.New("--admin: only --live asks a running daemon")}
			}
			hint := router.Hint{Listener: listener}
			if kind != "" {
				k, err := catalog.ParseKind(kind)
				if err != nil {
					return usageError{fmt.Errorf("--kind %s: %w", kind, err)}
				}
				hint.Kind = k
			}
			var routes []admin.Route
			var err error
			if live {
				routes, err = queryRoute(cmd, hosts, kind, listener)
			} else {
				routes, err = explain(cmd, hosts, hint)
			}
			if err != nil {
				return err
			}
			if err := writeRoutes(cmd.OutOrStdout(), routes, format); err != nil {
				return err
			}
			if slices.ContainsFunc(routes, func(w admin.Route) bool { return w.Refused != "" }) {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&listener, "listener", "", "as a client of the listener `ADDR`, as the configuration writes it")
	cmd.Flags().StringVar(&kind, "kind", "", "`KIND` of connection: http or websocket")
	cmd.Flags().BoolVar(&live, "live", false, "ask the running daemon")
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json")
	addAdminFlag(cmd)
	return cmd
}

// explain returns the routes in the configuration that the daemon would load.
func explain(cmd *cobra.Command, hosts []string, hint router.Hint) ([]admin.Route, error) {
	_, snap, err := load(configPath(cmd), config.Options{NoSecrets: true})
	if err != nil {
		return nil, err
	}
	if have, ok := admin.HasListener(snap.Config(), hint.Listener); !ok {
		return nil, usageError{fmt.Errorf("--listener %s: the configuration has %s", hint.Listener, have)}
	}
	routes := make([]admin.Route, len(hosts))
	for i, host := range hosts {
		routes[i] = admin.Explain(snap, host, hint, nil)
	}
	return routes, nil
}

// queryRoute returns the routes in the configuration of the running daemon.
func queryRoute(cmd *cobra.Command, hosts []string, kind, listener string) ([]admin.Route, error) {
	client, err := adminClient(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(cmd, requestTimeout)
	defer cancel()
	routes, err := client.Route(ctx, hosts, kind, listener)
	return routes, exitError(err)
}

// load returns a configuration and the snapshot built from it. Building finds
// errors that reading cannot, such as in a certificate file. Lists from URLs are those
// that are kept on disk, unless o says otherwise.
func load(path string, o config.Options) (*config.Config, *router.Router, error) {
	if o.Lists == nil {
		o.Lists = func(s *config.ListSource) *config.ListText {
			list, _ := source.OnDisk(s)
			return list
		}
	}
	c, err := config.LoadWith(path, os.Environ(), o)
	if err != nil {
		return nil, nil, err
	}
	snap, err := daemon.Snapshot(c, nil, daemon.Configured(c))
	return c, snap, err
}

func writeRoutes(out io.Writer, routes []admin.Route, format string) error {
	if format == "json" {
		return printJSON(out, routes)
	}
	for i, w := range routes {
		if i > 0 {
			fmt.Fprintln(out)
		}
		writeRoute(out, w)
	}
	return nil
}

// writeRoute prints a route for people.
func writeRoute(out io.Writer, w admin.Route) {
	fmt.Fprint(out, w.Host)
	if w.Port != 0 { // else the host is none
		fmt.Fprintf(out, ":%d", w.Port)
	}
	fmt.Fprintln(out)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(out, "  %-9s %s\n", name, value)
		}
	}
	line("exchange", w.Exchange)
	if w.Kind != "" {
		line("kind", w.Kind+" ("+w.KindFrom+")")
	}
	line("rule", w.Rule)
	for _, warning := range w.Warnings {
		line("warning", warning)
	}
	if w.Refused != "" {
		line("refused", w.Refused)
		line("do", w.Hint)
		return
	}
	line("pool", w.Pool)
	for _, m := range w.Members {
		line("member", memberText(m))
	}
	line("timeout", fmt.Sprintf("%g s", w.Timeout))
}

func memberText(m admin.RouteMember) string {
	s := m.URL
	if m.Name != m.URL {
		s = m.Name + "  " + m.URL
	}
	if m.Via != "" {
		s += "  via " + m.Via
	}
	if m.Tier > 1 {
		s += fmt.Sprintf("  tier %d", m.Tier)
	}
	if m.Weight != 1 {
		s += fmt.Sprintf("  weight %g", m.Weight)
	}
	if !m.Enabled {
		s += "  not enabled"
	}
	if m.State != "" {
		s += "  " + m.State
	}
	return s
}
