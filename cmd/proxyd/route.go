package main

import (
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

func routeCommand() *cobra.Command {
	var listener, kind string
	cmd := &cobra.Command{
		Use:     "route HOST[:PORT]...",
		Short:   "Explain which way a host takes, and why",
		Example: "  proxyd route stream.binance.com:9443\n  proxyd route --kind websocket api.gateio.ws",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, hosts []string) error {
			hint := router.Hint{Listener: listener}
			if kind != "" {
				k, err := catalog.ParseKind(kind)
				if err != nil {
					return usageError{err}
				}
				hint.Kind = k
			}
			c, err := config.LoadWith(configPath(cmd), os.Environ(), config.Options{NoSecrets: true})
			if err != nil {
				return err
			}
			r, err := daemon.Snapshot(c, nil, func(netip.AddrPort) bool { return false })
			if err != nil {
				return err
			}
			refused := false
			for _, host := range hosts {
				refused = explain(cmd.OutOrStdout(), r, host, hint) || refused
			}
			if refused {
				return errSilent
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&listener, "listener", "", "as a client of the listener `ADDR`, as the configuration writes it")
	cmd.Flags().StringVar(&kind, "kind", "", "`KIND` of connection: http or websocket")
	return cmd
}

// explain prints one host's way and reports whether it is refused.
func explain(out io.Writer, r *router.Router, hostport string, hint router.Hint) bool {
	host, port, err := target.SplitHostPort(hostport)
	if err != nil {
		host, port = hostport, 443
	}
	x := r.Explain(host, port, hint)
	fmt.Fprintf(out, "%s:%d\n", host, port)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(out, "  %-9s %s\n", name, value)
		}
	}
	line("exchange", x.Target.Exchange)
	if x.KindFrom != "" {
		line("kind", x.Target.Kind.String()+" ("+x.KindFrom+")")
	}
	line("rule", x.Rule)
	for _, w := range x.Warnings {
		line("warning", w)
	}
	if x.Err != nil {
		line("refused", x.Err.Error())
		return true
	}
	line("pool", x.Route.Pool.Name())
	for _, m := range x.Route.Pool.Members() {
		line("", "")
		line("member", strings.TrimSpace(m.Name()+"  "+m.URL()))
	}
	line("timeout", fmt.Sprintf("%g s", x.Route.Timeout.Seconds()))
	return false
}
