package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/event"
)

// addCompletion adds cobra's completion command, with an example, and the words
// that flags and arguments are completed with. An unknown shell is a usage error;
// cobra itself would print the help and succeed.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd("completion") // the argument makes cobra add it for sure
	for _, cmd := range root.Commands() {
		completeFlags(cmd)
		switch cmd.Name() {
		case "completion":
			cmd.Example = "  source <(proxyd completion bash)\n  proxyd completion fish > ~/.config/fish/completions/proxyd.fish"
			cmd.Args = usageArgs(cobra.ArbitraryArgs)
			cmd.RunE = func(_ *cobra.Command, args []string) error {
				return usageError{fmt.Errorf("completion %q: name one shell: bash, zsh, fish or powershell", strings.Join(args, " "))}
			}
		case "import": // a file
		case "probe":
			cmd.ValidArgsFunction = completeBy(func(*cobra.Command, []string) []string { return exchangeIDs() })
		case "exchanges":
			cmd.ValidArgsFunction = completeBy(func(_ *cobra.Command, args []string) []string { return upTo(1, args, exchangeIDs()) })
		case "drain", "resume":
			cmd.ValidArgsFunction = completeBy(func(cmd *cobra.Command, args []string) []string {
				if len(args) == 0 {
					return upstreamNames(cmd)
				}
				return upTo(2, args, exchangeIDs())
			})
		case "exec":
			cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return nil, cobra.ShellCompDirectiveDefault // file names: the command's words are its own
			}
		case "route":
			cmd.ValidArgsFunction = completeBy(func(*cobra.Command, []string) []string { return exchangeHosts() })
		default:
			cmd.ValidArgsFunction = completeBy(func(*cobra.Command, []string) []string { return nil })
		}
	}
}

// completeFlags completes the values of the flags that have a closed list.
func completeFlags(cmd *cobra.Command) {
	for flag, values := range map[string]func(*cobra.Command, []string) []string{
		"daemon":   func(*cobra.Command, []string) []string { return []string{"auto", "required", "own"} },
		"format":   func(*cobra.Command, []string) []string { return []string{"text", "json"} },
		"exchange": func(*cobra.Command, []string) []string { return exchangeIDs() },
		"upstream": func(cmd *cobra.Command, _ []string) []string { return append(upstreamNames(cmd), "direct") },
		"severity": func(*cobra.Command, []string) []string { return []string{"info", "warn", "error"} },
		"type":     func(*cobra.Command, []string) []string { return eventTypes() },
		"from":     func(*cobra.Command, []string) []string { return importKinds() },
		"scheme":   func(*cobra.Command, []string) []string { return listSchemes },
		"kind":     func(*cobra.Command, []string) []string { return []string{"http", "websocket"} },
		"for":      func(*cobra.Command, []string) []string { return clientNames() },
		"shell":    func(*cobra.Command, []string) []string { return slices.Sorted(maps.Keys(shells)) },
		"listener": func(cmd *cobra.Command, _ []string) []string { return listenAddresses(cmd) },
	} {
		if cmd.Flags().Lookup(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, completeBy(values)) // fails only for a flag that is not there
		}
	}
}

// completeBy returns a completion from a list of words, without file names.
func completeBy(words func(*cobra.Command, []string) []string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, begun string) (fit []string, _ cobra.ShellCompDirective) {
		for _, w := range words(cmd, args) {
			if strings.HasPrefix(w, strings.ToLower(begun)) && !slices.Contains(args, w) {
				fit = append(fit, w)
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}

// upTo returns the words, or nil if there are most arguments already.
func upTo(most int, args, words []string) []string {
	if len(args) >= most {
		return nil
	}
	return words
}

func exchangeIDs() []string { return catalog.Embedded().IDs() }

func eventTypes() (types []string) {
	for _, t := range event.Types {
		types = append(types, string(t))
	}
	return types
}

func exchangeHosts() (hosts []string) {
	for _, x := range catalog.Embedded().Exchanges() {
		for _, h := range x.Hosts {
			if !strings.HasPrefix(h.Name, "*") {
				hosts = append(hosts, h.Name)
			}
		}
	}
	return hosts
}

// upstreamNames returns the members of all pools, nil if the configuration has
// errors.
func upstreamNames(cmd *cobra.Command) (names []string) {
	c, err := config.LoadWith(configPath(cmd), os.Environ(), config.Options{NoSecrets: true})
	if err != nil {
		return nil
	}
	for _, p := range c.Pools {
		for _, m := range p.Proxies {
			if !slices.Contains(names, m.Name) {
				names = append(names, m.Name)
			}
		}
	}
	return names
}

func listenAddresses(cmd *cobra.Command) (addresses []string) {
	all, _ := config.ClientListeners(configPath(cmd), os.Environ()) // none when it cannot be read
	for _, l := range all {
		addresses = append(addresses, l.Address)
	}
	return addresses
}
