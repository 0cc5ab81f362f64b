package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
)

// watchInterval is the interval of --watch.
const watchInterval = 2 * time.Second

func statusCommand() *cobra.Command {
	var watch bool
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the running daemon is doing, problems first",
		Long: `Show what the running daemon is doing. The first line is "ok", or the first of the
problems. Exit code 0, or 1 if the daemon cannot be reached.`,
		Example: `  proxyd status
  proxyd status --watch
  proxyd status --format json | jq .upstreams
  proxyd status --admin unix:/run/proxyd/admin.sock`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			client, err := adminClient(cmd)
			if err != nil {
				return err
			}
			if err := showStatus(cmd, client, format, watch); err != nil || !watch {
				return err
			}
			return keepShowing(cmd, client, format)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every 2 seconds, until interrupted")
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json (with --watch: an object a line)")
	addAdminFlag(cmd)
	return cmd
}

// keepShowing prints the status until the context ends. It goes on while the daemon
// is unreachable, and prints that.
func keepShowing(cmd *cobra.Command, client *admin.Client, format string) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
		var unreachable *admin.UnreachableError
		err := showStatus(cmd, client, format, true)
		if errors.As(err, &unreachable) {
			fmt.Fprintln(cmd.ErrOrStderr(), "proxyd:", err)
		} else if err != nil {
			return err
		}
	}
}

func showStatus(cmd *cobra.Command, client *admin.Client, format string, again bool) error {
	ctx, cancel := withTimeout(cmd, requestTimeout)
	defer cancel()
	s, err := client.Status(ctx)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	file, _ := out.(*os.File)
	tty := file != nil && terminal(file)
	if format == "json" {
		if again {
			return json.NewEncoder(out).Encode(s)
		}
		return printJSON(out, s)
	}
	var text strings.Builder
	if again && tty {
		text.WriteString("\x1b[H\x1b[2J") // move home, and clear the screen
	}
	writeStatus(&text, s, tty && os.Getenv("NO_COLOR") == "", time.Now())
	if again && !tty {
		text.WriteString("\n")
	}
	_, err = io.WriteString(out, text.String())
	return err
}

// writeStatus prints a status for people.
func writeStatus(out io.Writer, s admin.Status, colour bool, now time.Time) {
	news := s.Problems()
	if len(news) == 0 {
		fmt.Fprintln(out, "ok")
	}
	for _, n := range news {
		if colour {
			n = "\x1b[31m" + n + "\x1b[0m"
		}
		fmt.Fprintln(out, n)
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("proxyd", "%s, %s, up %s, generation %d, pid %d", s.Version, s.State, admin.Duration(now.Sub(s.Started)), s.Generation, s.PID)
	line("config", "%s, loaded %s ago", configName(s.Config.File), admin.Duration(now.Sub(s.Config.LoadedAt)))
	for _, w := range s.Config.Warnings {
		line("warning", "%s", w)
	}
	for _, p := range s.Older {
		line("older", "generation %d, pid %d, still serves %d tunnels, %s after its hand-over", p.Generation, p.PID, p.Tunnels, admin.Duration(now.Sub(p.Since)))
	}
	for _, l := range s.Listeners {
		line("listen", "%s", listenerWords(l))
	}
	line("tunnels", "%d", s.Active)
	writeTables(out, s, now)
}

func listenerWords(l admin.Listener) string {
	words := []string{l.Address}
	if l.Bound != "" {
		words[0] = l.Bound
	}
	if l.Reach != "" {
		words = append(words, l.Reach)
	}
	if l.Use != "" {
		words = append(words, "use "+l.Use)
	}
	if l.Kind != "" {
		words = append(words, "kind "+l.Kind)
	}
	return strings.Join(words, ", ")
}

func writeTables(out io.Writer, s admin.Status, now time.Time) {
	tab := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(cells ...any) {
		format := strings.TrimSuffix(strings.Repeat("%v\t", len(cells)), "\t") + "\n"
		fmt.Fprintf(tab, format, cells...)
	}
	end := func() { _ = tab.Flush() }
	if len(s.Tunnels) > 0 {
		row("\nEXCHANGE", "KIND", "UPSTREAM", "TUNNELS")
		for _, c := range s.Tunnels {
			row(orDash(c.Exchange), c.Kind, c.Upstream, c.Tunnels)
		}
		end()
	}
	if len(s.Upstreams) > 0 {
		row("\nUPSTREAM", "URL", "POOLS", "TUNNELS", "STATE")
		upstreams := slices.Clone(s.Upstreams)
		slices.SortStableFunc(upstreams, func(a, b admin.Upstream) int { return severity(a) - severity(b) })
		for _, u := range upstreams {
			row(u.Name, u.URL, orDash(strings.Join(u.Pools, ",")), u.Tunnels, upstreamState(u, now))
		}
		end()
	}
	if len(s.Budgets) > 0 {
		row("\nEXIT", "EXCHANGE", "KIND", "LIMIT", "LEFT")
		for _, b := range s.Budgets {
			row(b.Exit, orDash(b.Exchange), orDash(b.Kind), b.Limit+watchedSuffix(b), b.Remaining)
		}
		end()
	}
}

// severity is the sort key of an upstream: those that are not used come first.
func severity(u admin.Upstream) int {
	switch {
	case u.Bad:
		return 0
	case u.State != "":
		return 1
	}
	return 2
}

func upstreamState(u admin.Upstream, now time.Time) string {
	words := []string{}
	if u.State != "" {
		words = append(words, u.State)
	}
	for _, v := range u.Verdicts {
		words = append(words, fmt.Sprintf("%s %s: %s", v.Exchange, v.Kind, v.Words(now)))
	}
	if len(words) == 0 {
		return "ok"
	}
	return strings.Join(words, "; ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func watchedSuffix(b admin.Budget) string {
	if b.Watched {
		return " (watched)"
	}
	return ""
}
