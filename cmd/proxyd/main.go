// Command proxyd is a local forward proxy for market-data feed clients: it
// sends each connection through the upstream that one YAML file names for its
// exchange. This package turns commands and flags into options, signals into
// contexts and errors into exit codes; it does nothing else.
package main

import (
	_ "embed" // licenses
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
	"proxyd/internal/child"
	"proxyd/internal/config"
	"proxyd/internal/isolate"
)

// version is set when a release is built.
var version = "dev"

func main() {
	if isolate.IsChild() { // of exec --isolate
		os.Exit(isolate.Child())
	}
	// net/http reports servers that answer out of turn to the standard logger; our
	// own log has the outcome.
	log.SetOutput(io.Discard)
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is an error in how the command was called: exit code 2.
type usageError struct{ error }

// Unwrap returns the cause.
func (u usageError) Unwrap() error { return u.error }

// errReported ends with exit code 1 when the output has said why already.
var errReported = errors.New("")

// execute runs one command and returns its exit code: 0, 1 for an error, 2 for
// wrong usage; for exec that of the command.
func execute(args []string, out, errOut io.Writer) int {
	return executeRoot(rootCommand(), args, out, errOut)
}

func executeRoot(root *cobra.Command, args []string, out, errOut io.Writer) int {
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	addCompletion(root) // after SetOut, which it reads
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	var status exitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(errOut, "proxyd: %v\nRun '%s --help' for usage.\n", err, cmd.CommandPath())
		return 2
	}
	if !errors.Is(err, errReported) {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintln(errOut, "proxyd:", line)
		}
	}
	var start *child.StartError
	if errors.As(err, &start) {
		return start.Code()
	}
	return 1
}

func rootCommand() *cobra.Command {
	run := runCommand()
	root := &cobra.Command{
		Use:   "proxyd",
		Short: "Send each exchange's connections through the proxy that one YAML file names",
		Long: `proxyd is a local forward proxy beside market-data feed clients. It accepts
HTTP CONNECT, plain HTTP and SOCKS on one port and sends each connection through
the upstream proxy that proxyd.yaml names for its exchange, or directly.

Without a command it runs the daemon.`,
		Example: `  proxyd                                  run, with ./proxyd.yaml if there is one
  eval "$(proxyd env)"                    point this shell's clients at it
  proxyd exec -- python feed.py           run one command through it
  proxyd check                            is the file valid?
  proxyd route stream.binance.com:9443    which upstream, and why`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		RunE:              run.RunE,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return flagsGiven(cmd) },
	}
	root.Args = func(_ *cobra.Command, args []string) error { return unknownCommand(root, args) }
	root.SetFlagErrorFunc(unknownFlag)
	root.PersistentFlags().StringP("config", "c", "", "configuration `FILE` (default: $PROXYD_CONFIG, ./proxyd.yaml, /etc/proxyd/proxyd.yaml, built-in defaults)")
	root.AddCommand(run, checkCommand(), routeCommand(), exchangesCommand(), envCommand(), execCommand(), nftCommand(), schemaCommand(), versionCommand(), demoCommand())
	root.AddCommand(probeCommand(), statusCommand(), healthCommand(), reloadCommand(), upgradeCommand(), drainCommand(), resumeCommand(), eventsCommand(), tunnelsCommand(), closeCommand(), importCommand())
	showVersion := root.Flags().BoolP("version", "v", false, "version for proxyd") // cobra's own would link its templates
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *showVersion {
			_, err := io.WriteString(cmd.OutOrStdout(), versionText())
			return err
		}
		return run.RunE(cmd, args)
	}
	return root
}

// flagsGiven refuses flags without a value, as an unset variable leaves them
// (-c "$CONFIG"): they would stand for another file, listener or daemon, or for no
// configuration at all.
func flagsGiven(cmd *cobra.Command) error {
	for _, name := range []string{"config", "admin", "listener", "allow", "host-port"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed && (f.Value.String() == "" || f.Value.String() == "[]") {
			return usageError{fmt.Errorf("--%s is empty; give it a value, or leave it out", name)}
		}
	}
	return nil
}

// usageArgs returns check with its errors as usage errors. A file name among the
// arguments is one too.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if i := slices.IndexFunc(args, hasFileName); i >= 0 {
			return noArgs(cmd, args[i:])
		}
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// noArgs returns a usage error for any argument; for a file name it says how to
// pass the file.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if isFile(args[0]) {
		return usageError{fmt.Errorf("%s: %s takes no FILE; did you mean %s -c %s?", args[0], cmd.Name(), cmd.CommandPath(), args[0])}
	}
	return usageError{fmt.Errorf("%s takes no argument, but got %q", cmd.CommandPath(), args[0])}
}

// unknownCommand returns a usage error for a word that is no command, with the
// nearest one.
func unknownCommand(root *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case isFile(args[0]):
		return usageError{fmt.Errorf("%s: no such command; did you mean proxyd run -c %s?", args[0], args[0])}
	}
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return usageError{fmt.Errorf("unknown command %q%s", args[0], config.DidYouMean(args[0], names))}
}

// unknownFlag returns a flag's error as a usage error, with the nearest flag.
func unknownFlag(cmd *cobra.Command, err error) error {
	word, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return usageError{err}
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-., )?--([a-z-]+)`).FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
		names = append(names, m[1])
	}
	return usageError{fmt.Errorf("%w%s", err, strings.Replace(config.DidYouMean(word, names), "did you mean ", "did you mean --", 1))}
}

// isFile reports whether word names a configuration file: by its extension, or
// because a regular file has that name.
func isFile(word string) bool {
	st, err := os.Stat(word)
	return hasFileName(word) || err == nil && st.Mode().IsRegular()
}

// hasFileName reports whether word has the extension of a configuration file.
func hasFileName(word string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(word)))
}

// oneOf returns a usage error if the value of a flag is not in the list.
func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return usageError{fmt.Errorf("--%s %s: must be one of %s%s", flag, value, strings.Join(allowed, ", "), config.DidYouMean(value, allowed))}
}

// configPath returns the configuration file of a command, "" if there is none.
func configPath(cmd *cobra.Command) string {
	flag, _ := cmd.Flags().GetString("config")
	path, _ := config.FindFile(flag, os.Environ())
	return path
}

// licenses are the licences and notices of what is linked; a test writes them.
//
//go:generate go test -run LicensesAreThose . -update
//go:embed licenses.txt
var licenses string

func versionCommand() *cobra.Command {
	var format string
	var texts bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and the catalogue's date",
		Example: `  proxyd version --format json
  proxyd version --licenses`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if texts {
				_, err := io.WriteString(out, licenses)
				return err
			}
			if format == "json" {
				return json.NewEncoder(out).Encode(map[string]string{
					"version": version, "revision": revision(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "catalogue": catalog.Date(),
				})
			}
			_, err := io.WriteString(out, versionText())
			return err
		},
	}
	cmd.Flags().BoolVar(&texts, "licenses", false, "print the modules that the program contains, with their licences")
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json")
	return cmd
}

// versionText returns the version, the catalogue's date and the platform, a line each.
func versionText() string {
	return fmt.Sprintf("proxyd %s\ncatalogue %s\n%s %s/%s\n", version, catalog.Date(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// revision returns the commit that the binary was built from, "" if it is not known.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// printsScript makes cmd print what another program runs. Where cmd fails, for a wrong
// flag too, it prints what failed returns, with which that program fails as well: it may
// not see the exit code of cmd.
func printsScript(cmd *cobra.Command, print func(*cobra.Command) error, failed func() string) {
	failing := func(err error) error {
		if err != nil {
			fmt.Fprint(cmd.OutOrStdout(), failed())
		}
		return err
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return failing(unknownFlag(cmd, err)) })
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return failing(flagsGiven(cmd)) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noArgs(cmd, args); err != nil {
			return failing(err)
		}
		return failing(print(cmd))
	}
}
