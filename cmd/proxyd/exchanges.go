package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

// exchangeJSON is an exchange as --format json prints it. Lists are never null.
type exchangeJSON struct {
	ID      string   `json:"id"`
	Aliases []string `json:"aliases"`
	Family  []string `json:"family"`
	Domains []string `json:"domains"`
	// always or closes: its markets close at times
	Sessions string     `json:"sessions"`
	Hosts    []hostJSON `json:"hosts"`
}

type hostJSON struct {
	Name string `json:"host"`
	Kind string `json:"kind"`
	Env  string `json:"env"`
}

func exchangesCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "exchanges [ID]",
		Short:   "List the exchanges that proxyd knows, or one with its hosts",
		Example: "  proxyd exchanges\n  proxyd exchanges binance --format json",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			known := catalogue(cmd)
			list := known.Exchanges()
			if len(args) == 1 {
				id, ok := known.Resolve(args[0])
				if !ok {
					return unknownExchange(known, args[0])
				}
				x, _ := known.Get(id)
				list = []catalog.Exchange{x}
			}
			out := cmd.OutOrStdout()
			if format == "json" {
				return printJSON(out, toJSON(list))
			}
			if len(args) == 1 {
				return writeExchange(out, list[0])
			}
			return writeExchanges(out, list)
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json")
	return cmd
}

// catalogue returns the embedded catalogue with the rows of the configuration's
// own, or without them if the configuration has errors.
func catalogue(cmd *cobra.Command) *catalog.Catalog {
	c, err := config.LoadWith(configPath(cmd), os.Environ(), config.Options{NoSecrets: true})
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "the configuration has errors (see proxyd check): its own rows for the catalogue are left out")
		return catalog.Embedded()
	}
	return c.Known()
}

// unknownExchange returns the error for a name that the catalogue lacks, with
// similar ones.
func unknownExchange(known *catalog.Catalog, name string) error {
	var like []string
	for _, id := range known.IDs() {
		if strings.Contains(id, strings.ToLower(name)) || strings.HasPrefix(strings.ToLower(name), id) {
			like = append(like, id)
		}
	}
	if len(like) > 0 {
		return fmt.Errorf("exchange %q is not in the catalogue; similar: %s", name, strings.Join(like, ", "))
	}
	return fmt.Errorf("exchange %q is not in the catalogue; list them with: proxyd exchanges%s", name, config.DidYouMean(name, known.IDs()))
}

func toJSON(list []catalog.Exchange) []exchangeJSON {
	out := make([]exchangeJSON, 0, len(list))
	for _, x := range list {
		l := exchangeJSON{ID: x.ID, Aliases: append([]string{}, x.Aliases...), Family: append([]string{}, x.Family...), Domains: append([]string{}, x.Domains...), Sessions: cmp.Or(x.Sessions, catalog.SessionsAlways), Hosts: []hostJSON{}}
		for _, h := range x.Hosts {
			l.Hosts = append(l.Hosts, hostJSON{h.Name, h.Kind.String(), h.Env})
		}
		out = append(out, l)
	}
	return out
}

func writeExchanges(out io.Writer, list []catalog.Exchange) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "EXCHANGE\tHOSTS\tALIASES")
	for _, x := range list {
		fmt.Fprintf(w, "%s\t%d\t%s\n", x.ID, len(x.Hosts), strings.Join(x.Aliases, " "))
	}
	return w.Flush()
}

func writeExchange(out io.Writer, x catalog.Exchange) error {
	fmt.Fprintln(out, x.ID)
	if len(x.Aliases) > 0 {
		fmt.Fprintln(out, "  aliases:", strings.Join(x.Aliases, " "))
	}
	if len(x.Family) > 0 {
		fmt.Fprintln(out, "  clients of it may also reach:", strings.Join(x.Family, " "))
	}
	if len(x.Domains) > 0 {
		fmt.Fprintln(out, "  owns the domains:", strings.Join(x.Domains, " "))
	}
	if x.Sessions == catalog.SessionsClose {
		fmt.Fprintln(out, "  sessions: closes at times (silence: auto is off for it)")
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, h := range x.Hosts {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", h.Name, h.Kind, h.Env)
	}
	return w.Flush()
}
