package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/config"
	"proxyd/internal/printable"
	"proxyd/internal/router"
	"proxyd/internal/source"
)

// checkResult is the outcome of a check, as --format json prints it.
type checkResult struct {
	File     string         `json:"file"`
	OK       bool           `json:"ok"`
	Errors   []config.Error `json:"faults"`
	Warnings []config.Error `json:"warnings"`
	Notes    []string       `json:"notes,omitempty"` // what is not known here
}

func checkCommand() *cobra.Command {
	var print, noSecrets, strict, fetch bool
	var format string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Load and check the configuration, without any effect",
		Long: `Load and check the configuration, without any effect. Each error is one line:

  FILE:LINE:COL: key.path: what is wrong; what to do

The warnings follow. Exit code 0 if there is no error, else 1.

Nothing is asked of the network: a list from a URL is the one that the daemon has kept, as
a note says. With --fetch the lists are fetched, as the daemon would, and are not kept.`,
		Example: `  proxyd check -c proxyd.yaml
  proxyd check --print               the effective configuration, secrets masked
  proxyd check --no-secrets --strict in CI, where the secrets are not known`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			path := configPath(cmd)
			c, snap, err := load(path, config.Options{NoSecrets: noSecrets})
			var lists fetchedLists
			if fetch && err == nil {
				lists = fetchLists(cmd.Context(), c, snap)
				c, snap, err = load(path, config.Options{NoSecrets: noSecrets, Lists: lists.list})
			}
			result := newCheckResult(path, snap, err)
			if err == nil {
				result.addLists(c, fetch, lists)
			}
			if strict && len(result.Warnings) > 0 {
				result.OK = false
			}
			out := cmd.OutOrStdout()
			switch {
			case format == "json":
				if err := printJSON(out, result); err != nil {
					return err
				}
			case print && len(result.Errors) == 0:
				fmt.Fprint(out, config.Print(c))
				writeWarnings(cmd.ErrOrStderr(), result)
				for _, n := range result.Notes {
					fmt.Fprintln(cmd.ErrOrStderr(), "note:", n)
				}
			default:
				writeCheckResult(out, result)
			}
			if !result.OK {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&print, "print", false, "print the effective configuration as YAML, secrets masked")
	cmd.Flags().BoolVar(&noSecrets, "no-secrets", false, "accept ${NAME} and ${file:…} that cannot be read")
	cmd.Flags().BoolVar(&fetch, "fetch", false, "fetch the lists from URLs")
	cmd.Flags().BoolVar(&strict, "strict", false, "count warnings as errors")
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json")
	return cmd
}

// newCheckResult returns the outcome of a load, with the warnings that the daemon
// logs at start.
func newCheckResult(path string, snap *router.Router, err error) checkResult {
	r := checkResult{File: path, OK: err == nil, Errors: []config.Error{}, Warnings: []config.Error{}}
	var list config.Errors
	switch {
	case errors.As(err, &list):
		r.Errors = list
	case err != nil:
		r.Errors = []config.Error{{File: path, Message: err.Error()}}
	default:
		r.Warnings = append(r.Warnings, snap.Config().Warnings...)
		for _, w := range snap.Warnings() {
			r.Warnings = append(r.Warnings, config.Error{Message: w})
		}
	}
	return r
}

// fetchedLists are lists from URLs that check has fetched.
type fetchedLists struct {
	lists    *source.Lists
	fresh    source.Fresh
	problems []source.Problem
}

func (f fetchedLists) list(s *config.ListSource) *config.ListText { return f.lists.With(f.fresh)(s) }

// fetchLists fetches the lists of a configuration, and keeps nothing.
func fetchLists(ctx context.Context, c *config.Config, snap *router.Router) (f fetchedLists) {
	f.lists = source.New(source.Options{Fetch: (&source.Fetcher{}).Fetch})
	f.fresh, f.problems = f.lists.Refresh(ctx, snap.Set(), c.Sources(), true)
	return f
}

// addLists adds what a check knows of the lists from URLs.
func (r *checkResult) addLists(c *config.Config, fetch bool, f fetchedLists) {
	for _, p := range f.problems {
		r.OK = false
		r.Errors = append(r.Errors, config.Error{File: r.File, Message: fmt.Sprintf("list %s cannot be fetched from %s: %s", p.Source.Name, p.Source.Shown, p.Err)})
	}
	for _, s := range c.Sources() {
		kept, at := source.OnDisk(s)
		switch {
		case fetch && !f.failed(s):
			r.Notes = append(r.Notes, fmt.Sprintf("list %s: %s, fetched from %s", s.Name, proxiesOf(f.list(s)), s.Shown))
		case fetch:
		case kept != nil:
			r.Notes = append(r.Notes, fmt.Sprintf("list %s: %s, kept of %s; check --fetch fetches the newest from %s", s.Name, proxiesOf(kept), at.Format(time.DateTime), s.Shown))
		default:
			r.Notes = append(r.Notes, fmt.Sprintf("list %s: not known here, and so no member that comes from it; check --fetch fetches it from %s", s.Name, s.Shown))
		}
	}
}

func proxiesOf(l *config.ListText) string { return printable.Count(l.Proxies(), "proxy", "proxies") }

func (f fetchedLists) failed(s *config.ListSource) bool {
	return slices.ContainsFunc(f.problems, func(p source.Problem) bool { return p.Source.Name == s.Name })
}

// writeCheckResult writes the result as text.
func writeCheckResult(out io.Writer, r checkResult) {
	for _, f := range r.Errors {
		fmt.Fprintln(out, f)
	}
	writeWarnings(out, r)
	for _, n := range r.Notes {
		fmt.Fprintln(out, "note:", n)
	}
	name := r.File
	if name == "" {
		name = "built-in defaults"
	}
	if len(r.Errors) == 0 {
		s := "s"
		if len(r.Warnings) == 1 {
			s = ""
		}
		fmt.Fprintf(out, "%s: ok, %d warning%s\n", name, len(r.Warnings), s)
	}
}

func writeWarnings(out io.Writer, r checkResult) {
	for _, w := range r.Warnings {
		fmt.Fprintln(out, "warning:", w)
	}
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the configuration, for editors",
		Example: `  proxyd schema > proxyd.schema.json
  # then, as the file's first line: # yaml-language-server: $schema=proxyd.schema.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}
