package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

// listedExchange is the machine-readable form of one exchange.
type listedExchange struct {
	ID      string       `json:"id"`
	Aliases []string     `json:"aliases"`
	Family  []string     `json:"family"`
	Domains []string     `json:"domains"`
	Hosts   []listedHost `json:"hosts"`
}

type listedHost struct {
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
				enc := json.NewEncoder(out)
				enc.SetIndent("", "  ")
				return enc.Encode(listed(list))
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

// catalogue is the one that the configuration lays its rows over, or the
// embedded one alone when the configuration is at fault.
func catalogue(cmd *cobra.Command) *catalog.Catalog {
	c, err := config.LoadWith(configPath(cmd), os.Environ(), config.Options{NoSecrets: true})
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "the configuration has errors (see proxyd check): its own rows for the catalogue are left out")
		return catalog.Embedded()
	}
	return c.Known()
}

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

func listed(list []catalog.Exchange) []listedExchange {
	out := make([]listedExchange, 0, len(list))
	for _, x := range list {
		l := listedExchange{ID: x.ID, Aliases: append([]string{}, x.Aliases...), Family: append([]string{}, x.Family...), Domains: append([]string{}, x.Domains...), Hosts: []listedHost{}}
		for _, h := range x.Hosts {
			l.Hosts = append(l.Hosts, listedHost{h.Name, h.Kind.String(), h.Env})
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
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, h := range x.Hosts {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", h.Name, h.Kind, h.Env)
	}
	return w.Flush()
}
