package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/daemon"
	"proxyd/internal/router"
	"proxyd/internal/target"
)

// routed is one host's way, for programs.
type routed struct {
	Host     string        `json:"host"`
	Port     uint16        `json:"port"`
	Exchange string        `json:"exchange,omitempty"`
	Kind     string        `json:"kind,omitempty"`
	KindFrom string        `json:"kind_from,omitempty"`
	Rule     string        `json:"rule,omitempty"`
	Warnings []string      `json:"warnings"`
	Refused  string        `json:"refused,omitempty"` // why; the rest is then missing
	Pool     string        `json:"pool,omitempty"`
	Members  []routeMember `json:"members,omitempty"`
	Timeout  float64       `json:"timeout_seconds,omitempty"`
}

type routeMember struct {
	Name    string `json:"name"`
	URL     string `json:"url"` // credentials masked
	Tier    int    `json:"tier"`
	Weight  int    `json:"weight"`
	Enabled bool   `json:"enabled"`
}

func routeCommand() *cobra.Command {
	var listener, kind, format string
	cmd := &cobra.Command{
		Use:   "route HOST[:PORT]...",
		Short: "Explain which way a host takes, and why",
		Long: `Explain which way a host takes, and why: its exchange and kind, the rule that
matched, the pool and its members in order. Nothing is dialled or resolved; what
the configuration says is explained, not what a running daemon has found out.
Exit code 1 if a host would be refused.`,
		Example: "  proxyd route stream.binance.com:9443\n  proxyd route --kind websocket api.gateio.ws\n  proxyd route --format json api.kraken.com | jq .[0].pool",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, hosts []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			hint := router.Hint{Listener: listener}
			if kind != "" {
				k, err := catalog.ParseKind(kind)
				if err != nil {
					return usageError{fmt.Errorf("--kind %s: %w", kind, err)}
				}
				hint.Kind = k
			}
			_, snap, err := load(configPath(cmd), config.Options{NoSecrets: true})
			if err != nil {
				return err
			}
			if err := isListener(snap.Config(), listener); err != nil {
				return err
			}
			ways := make([]routed, len(hosts))
			refused := false
			for i, host := range hosts {
				ways[i] = explain(snap, host, hint)
				refused = refused || ways[i].Refused != ""
			}
			if err := writeRouted(cmd.OutOrStdout(), ways, format); err != nil {
				return err
			}
			if refused {
				return errSilent
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&listener, "listener", "", "as a client of the listener `ADDR`, as the configuration writes it")
	cmd.Flags().StringVar(&kind, "kind", "", "`KIND` of connection: http or websocket")
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json")
	return cmd
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

// isListener makes a listener that the configuration lacks a usage error.
func isListener(c *config.Config, address string) error {
	if address == "" {
		return nil
	}
	var have []string
	for _, l := range c.Listen {
		if l.Address == address {
			return nil
		}
		have = append(have, l.Address)
	}
	return usageError{fmt.Errorf("--listener %s: the configuration has %s", address, strings.Join(have, ", "))}
}

// explain finds one host's way.
func explain(r *router.Router, hostport string, hint router.Hint) routed {
	host, port, err := target.SplitHostPort(hostport)
	if err != nil {
		host, port = hostport, 443
	}
	x := r.Explain(host, port, hint)
	way := routed{Host: host, Port: port, Exchange: x.Target.Exchange, KindFrom: x.KindFrom, Rule: x.Rule, Warnings: append([]string{}, x.Warnings...)}
	if x.KindFrom != "" {
		way.Kind = x.Target.Kind.String()
	}
	if x.Err != nil {
		way.Refused = x.Err.Error()
		return way
	}
	way.Pool, way.Timeout = x.Route.Pool.Name(), x.Route.Timeout.Seconds()
	for _, m := range x.Route.Pool.Members() {
		way.Members = append(way.Members, routeMember{m.Name(), m.URL(), m.Tier, m.Weight, m.Enabled})
	}
	return way
}

func writeRouted(out io.Writer, ways []routed, format string) error {
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(ways)
	}
	for i, w := range ways {
		if i > 0 {
			fmt.Fprintln(out)
		}
		w.write(out)
	}
	return nil
}

// write prints a way for people.
func (w routed) write(out io.Writer) {
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
		line("member", m.text())
	}
	line("timeout", fmt.Sprintf("%g s", w.Timeout))
}

func (m routeMember) text() string {
	s := m.URL
	if m.Name != m.URL {
		s = m.Name + "  " + m.URL
	}
	if m.Tier > 1 {
		s += fmt.Sprintf("  tier %d", m.Tier)
	}
	if m.Weight != 1 {
		s += fmt.Sprintf("  weight %d", m.Weight)
	}
	if !m.Enabled {
		s += "  not enabled"
	}
	return s
}
