package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"proxyd/internal/config"
	"proxyd/internal/router"
)

// checkResult is the outcome of a check, as --format json prints it.
type checkResult struct {
	File     string         `json:"file"`
	OK       bool           `json:"ok"`
	Errors   []config.Error `json:"faults"`
	Warnings []config.Error `json:"warnings"`
}

func checkCommand() *cobra.Command {
	var print, noSecrets, strict bool
	var format string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Load and check the configuration, without any effect",
		Long: `Load and check the configuration, without any effect. Each error is one line:

  FILE:LINE:COL: key.path: what is wrong; what to do

The warnings follow. Exit code 0 if there is no error, else 1.`,
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
			result := newCheckResult(path, snap, err)
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

// writeCheckResult writes the result as text.
func writeCheckResult(out io.Writer, r checkResult) {
	for _, f := range r.Errors {
		fmt.Fprintln(out, f)
	}
	writeWarnings(out, r)
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
