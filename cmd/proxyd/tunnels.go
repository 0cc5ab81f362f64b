package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
	"proxyd/internal/catalog"
)

func tunnelsCommand() *cobra.Command {
	var wanted tunnelFlags
	var format string
	cmd := &cobra.Command{
		Use:   "tunnels",
		Short: "List the live tunnels, the quietest first",
		Long: `List the live tunnels of the running daemon, those on which the exchange has sent
nothing for longest first. Filters are combined: what is listed matches all of them.

QUIET is the time since the last byte from the exchange, heartbeats too; OPEN since
the tunnel was opened, DOWN/S what the exchange sent in the last second. STATE is
"silent" (it carries next to nothing but heartbeats, and used to or should carry
more), "stalled" (the client does not read) or "half" (one side has ended).`,
		Example: `  proxyd tunnels
  proxyd tunnels --exchange okx --quiet 30s
  proxyd tunnels --upstream tokyo-1 --format json | jq length`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			f, err := wanted.filter(cmd)
			if err != nil {
				return err
			}
			list, err := askTunnels(cmd, f)
			if err != nil {
				return err
			}
			if format == "json" {
				return printJSON(cmd.OutOrStdout(), list)
			}
			writeTunnels(cmd.OutOrStdout(), list, time.Now())
			noteOlder(cmd)
			return nil
		},
	}
	wanted.add(cmd)
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json")
	addAdminFlag(cmd)
	return cmd
}

// tunnelFlags are the filters of proxyd tunnels and close.
type tunnelFlags struct{ id, exchange, upstream, kind, quiet string }

func (t *tunnelFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.exchange, "exchange", "", "only those to the exchange `ID`; none: to hosts of no exchange")
	f.StringVar(&t.upstream, "upstream", "", "only those through the upstream `NAME`")
	f.StringVar(&t.kind, "kind", "", "only those of a `KIND`: http or websocket")
	f.StringVar(&t.quiet, "quiet", "", "only those on which the exchange has sent nothing for a `TIME`, such as 30s")
	f.StringVar(&t.id, "id", "", "only the one with an `ID`, which the log and proxyd tunnels show")
}

// filter returns what the flags say. An empty value is an error: an unset variable
// must not widen what is meant.
func (t *tunnelFlags) filter(cmd *cobra.Command) (f admin.Filter, err error) {
	for _, name := range []string{"id", "exchange", "upstream", "kind", "quiet"} {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return f, usageError{fmt.Errorf("--%s is empty; give it a value, or leave it out", name)}
		}
	}
	f = admin.Filter{ID: t.id, Exchange: strings.ToLower(t.exchange), Upstream: strings.ToLower(t.upstream)}
	if t.kind != "" {
		if f.Kind, err = catalog.ParseKind(t.kind); err != nil {
			return f, usageError{fmt.Errorf("--kind %q: %w", t.kind, err)}
		}
	}
	if t.quiet != "" {
		if f.Quiet, err = admin.ParseDuration(t.quiet); err != nil {
			return f, usageError{fmt.Errorf("--quiet: %w", err)}
		}
	}
	return f, nil
}

func askTunnels(cmd *cobra.Command, f admin.Filter) ([]admin.Tunnel, error) {
	client, err := adminClient(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(cmd, requestTimeout)
	defer cancel()
	return client.Tunnels(ctx, f)
}

// noteOlder says which tunnels an upgrade has left in processes that are not asked.
func noteOlder(cmd *cobra.Command) {
	client, err := adminClient(cmd)
	if err != nil {
		return
	}
	s, err := askStatus(cmd, client)
	if err != nil {
		return
	}
	for _, p := range s.Older {
		if p.Tunnels > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "not listed, and not to be closed here: %d of process %d, generation %d, which an upgrade has left\n", p.Tunnels, p.PID, p.Generation)
		}
	}
}

// tunnelColumns is what a line of the table has at most.
const tunnelColumns = 100

// writeTunnels prints a table for people.
func writeTunnels(out io.Writer, list []admin.Tunnel, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(out, "no open tunnel matches")
		return
	}
	var text strings.Builder
	tab := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "QUIET\tSTATE\tEXCHANGE\tKIND\tUPSTREAM\tOPEN\tDOWN/S\tID\tCLIENT")
	for _, t := range list {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			shortTime(time.Duration(t.Quiet*float64(time.Second))), orDash(tunnelState(t)), cutName(cmp.Or(t.Exchange, t.Host), 16), orDash(t.Kind),
			cutName(t.Upstream, 14), shortTime(now.Sub(t.Started)), shortBytes(t.Down.Second), t.ID, clientOf(t))
	}
	_ = tab.Flush()
	for line := range strings.Lines(text.String()) {
		line = strings.TrimRight(line, "\n")
		fmt.Fprintln(out, strings.TrimRight(line[:min(len(line), tunnelColumns)], " "))
	}
}

// cutName returns a name in at most so many characters.
func cutName(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most-3] + "..."
}

func tunnelState(t admin.Tunnel) string {
	switch {
	case t.ClientStalled:
		return "stalled"
	case t.Silent:
		return "silent"
	case t.HalfClosed:
		return "half"
	}
	return ""
}

// clientOf returns the client's user name, or the address; of one on this machine
// the port alone.
func clientOf(t admin.Tunnel) string {
	if t.User != "" {
		return t.User
	}
	if a, err := netip.ParseAddrPort(t.Client); err == nil && a.Addr().Unmap().IsLoopback() {
		return fmt.Sprintf(":%d", a.Port())
	}
	return t.Client
}

// shortTime returns a time in at most six characters: 59s, 59m59s, 23h59m, 99d.
func shortTime(d time.Duration) string {
	switch s := int64(max(0, d) / time.Second); {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%dm", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%dd%dh", s/86400, s%86400/3600)
	}
}

// shortBytes returns a number of bytes in at most seven characters.
func shortBytes(n float64) string {
	for _, unit := range []string{"B", "kB", "MB"} {
		switch {
		case n < 9.95 && unit != "B":
			return fmt.Sprintf("%.1f %s", n, unit)
		case n < 999.5:
			return fmt.Sprintf("%.0f %s", n, unit)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.1f GB", n)
}

func closeCommand() *cobra.Command {
	var wanted tunnelFlags
	var over string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "close",
		Short: "Close live tunnels, so that their clients connect again",
		Long: `Close the live tunnels of the running daemon that match all filters; at least one
is needed. Their clients see the connection end, and connect again. --over spreads
that evenly, so that they do not all come back together; it goes on when this command
has ended, until the daemon stops or is replaced.

Exit code 0, or 1 if no tunnel matches or a name is not known.`,
		Example: `  proxyd close --exchange okx --kind websocket --upstream tokyo-1
  proxyd close --upstream tokyo-1 --over 60
  proxyd close --exchange binance --quiet 30s --dry-run
  proxyd close --id 5f3a91-2k`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := wanted.filter(cmd)
			if err != nil {
				return err
			}
			if f == (admin.Filter{}) {
				return usageError{errors.New("say which tunnels: --exchange, --upstream, --kind, --quiet or --id, or several of them")}
			}
			var spread time.Duration
			if over != "" && over != "0" {
				if spread, err = admin.ParseDuration(over); err != nil {
					return usageError{fmt.Errorf("--over: %w", err)}
				}
			}
			return closeTunnels(cmd, f, spread, dryRun)
		},
	}
	wanted.add(cmd)
	cmd.Flags().StringVar(&over, "over", "", "spread it evenly over so many `SECONDS`")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only list what would be closed")
	addAdminFlag(cmd)
	return cmd
}

func closeTunnels(cmd *cobra.Command, f admin.Filter, over time.Duration, dryRun bool) error {
	client, err := adminClient(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := withTimeout(cmd, requestTimeout)
	defer cancel()
	if dryRun {
		list, err := client.Tunnels(ctx, f)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			writeTunnels(cmd.OutOrStdout(), list, time.Now())
		}
	}
	reply, err := client.Close(ctx, f, over, dryRun)
	if err == nil {
		fmt.Fprintln(cmd.OutOrStdout(), reply)
	}
	noteOlder(cmd)
	return err
}
