package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/daemon"
	"proxyd/internal/router"
)

// routed is one host's way, for programs.
type (
	routed      = admin.Route
	routeMember = admin.RouteMember
)

func routeCommand() *cobra.Command {
	var listener, kind, format string
	var live bool
	cmd := &cobra.Command{
		Use:   "route HOST[:PORT]...",
		Short: "Explain which way a host takes, and why",
		Long: `Explain which way a host takes, and why: its exchange and kind, the rule that
matched, the pool and its members in order. Nothing is dialled or resolved; what
the configuration says is explained, or with --live what the running daemon has
in force and has found out about the members.
Exit code 1 if a host would be refused.`,
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
			var ways []routed
			var err error
			if live {
				ways, err = askRoute(cmd, hosts, kind, listener)
			} else {
				ways, err = explain(cmd, hosts, hint)
			}
			if err != nil {
				return err
			}
			if err := writeRouted(cmd.OutOrStdout(), ways, format); err != nil {
				return err
			}
			if slices.ContainsFunc(ways, func(w routed) bool { return w.Refused != "" }) {
				return errSilent
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

// explain asks the configuration that the daemon would load.
func explain(cmd *cobra.Command, hosts []string, hint router.Hint) ([]routed, error) {
	_, snap, err := load(configPath(cmd), config.Options{NoSecrets: true})
	if err != nil {
		return nil, err
	}
	if have, ok := admin.HasListener(snap.Config(), hint.Listener); !ok {
		return nil, usageError{fmt.Errorf("--listener %s: the configuration has %s", hint.Listener, have)}
	}
	ways := make([]routed, len(hosts))
	for i, host := range hosts {
		ways[i] = admin.Explain(snap, host, hint, nil)
	}
	return ways, nil
}

// askRoute asks the running daemon.
func askRoute(cmd *cobra.Command, hosts []string, kind, listener string) ([]routed, error) {
	client, err := adminClient(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(cmd, askTime)
	defer cancel()
	ways, err := client.Route(ctx, hosts, kind, listener)
	return ways, exitError(err)
}

// load reads a configuration and builds its snapshot, so that what can only be
// found by building (a certificate file, say) is found too.
func load(path string, o config.Options) (*config.Config, *router.Router, error) {
	c, err := config.LoadWith(path, os.Environ(), o)
	if err != nil {
		return nil, nil, err
	}
	snap, err := daemon.Snapshot(c, nil, func(netip.AddrPort) bool { return false })
	return c, snap, err
}

func writeRouted(out io.Writer, ways []routed, format string) error {
	if format == "json" {
		return printJSON(out, ways)
	}
	for i, w := range ways {
		if i > 0 {
			fmt.Fprintln(out)
		}
		writeWay(out, w)
	}
	return nil
}

// writeWay prints a way for people.
func writeWay(out io.Writer, w routed) {
	fmt.Fprintf(out, "%s:%d\n", w.Host, w.Port)
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
		return
	}
	line("pool", w.Pool)
	for _, m := range w.Members {
		line("member", memberText(m))
	}
	line("timeout", fmt.Sprintf("%g s", w.Timeout))
}

func memberText(m routeMember) string {
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
