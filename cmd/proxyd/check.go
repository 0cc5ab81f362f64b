package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"proxyd/internal/config"
	"proxyd/internal/router"
)

// checked is the machine-readable result of a check.
type checked struct {
	File     string         `json:"file"`
	OK       bool           `json:"ok"`
	Faults   []checkedFault `json:"faults"`
	Warnings []checkedFault `json:"warnings"`
}

type checkedFault struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Col  int    `json:"column,omitempty"`
	Env  string `json:"env,omitempty"`
	Key  string `json:"key,omitempty"`
	What string `json:"what"`
	Do   string `json:"do,omitempty"`
}

func checkCommand() *cobra.Command {
	var print, noSecrets, strict bool
	var format string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Load and check the configuration, without any effect",
		Long: `Load and check the configuration, without any effect. Every fault is one line,
FILE:LINE:COL: key.path: what is wrong; what to do
then come the warnings. Exit code 0 if there is no fault, else 1.`,
		Example: `  proxyd check -c proxyd.yaml
  proxyd check --print               the configuration in force, secrets masked
  proxyd check --no-secrets --strict in CI, where the secrets are not known`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			path := configPath(cmd)
			c, snap, err := load(path, config.Options{NoSecrets: noSecrets})
			result := collect(path, snap, err)
			if strict && len(result.Warnings) > 0 {
				result.OK = false
			}
			out := cmd.OutOrStdout()
			switch {
			case format == "json":
				enc := json.NewEncoder(out)
				enc.SetIndent("", "  ")
				if err := enc.Encode(result); err != nil {
					return err
				}
			case print && len(result.Faults) == 0:
				fmt.Fprint(out, config.Print(c))
				writeWarnings(cmd.ErrOrStderr(), result)
			default:
				writeChecked(out, result)
			}
			if !result.OK {
				return errSilent
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&print, "print", false, "print the effective configuration as YAML, secrets masked")
	cmd.Flags().BoolVar(&noSecrets, "no-secrets", false, "treat missing secrets as given")
	cmd.Flags().BoolVar(&strict, "strict", false, "let warnings count as faults")
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json")
	return cmd
}

// collect turns the outcome of a load into a result, with the warnings that
// the start of the daemon logs.
func collect(path string, snap *router.Router, err error) checked {
	r := checked{File: path, OK: err == nil, Faults: []checkedFault{}, Warnings: []checkedFault{}}
	var faults config.Errors
	switch {
	case errors.As(err, &faults):
		r.Faults = checkedFaults(faults)
	case err != nil:
		r.Faults = checkedFaults(config.Errors{{File: path, Message: err.Error()}})
	default:
		r.Warnings = checkedFaults(snap.Config().Warnings)
		for _, w := range snap.Warnings() {
			r.Warnings = append(r.Warnings, checkedFault{What: w})
		}
	}
	return r
}

func checkedFaults(faults []config.Error) []checkedFault {
	list := make([]checkedFault, len(faults))
	for i, f := range faults {
		list[i] = checkedFault{File: f.File, Line: f.Line, Col: f.Col, Env: f.Var, Key: f.Key, What: f.Message, Do: f.Hint}
	}
	return list
}

func (f checkedFault) String() string {
	return config.Error{File: f.File, Line: f.Line, Col: f.Col, Var: f.Env, Key: f.Key, Message: f.What, Hint: f.Do}.String()
}

func writeChecked(out io.Writer, r checked) {
	for _, f := range r.Faults {
		fmt.Fprintln(out, f)
	}
	writeWarnings(out, r)
	name := r.File
	if name == "" {
		name = "built-in defaults"
	}
	if len(r.Faults) == 0 {
		s := "s"
		if len(r.Warnings) == 1 {
			s = ""
		}
		fmt.Fprintf(out, "%s: ok, %d warning%s\n", name, len(r.Warnings), s)
	}
}

func writeWarnings(out io.Writer, r checked) {
	for _, w := range r.Warnings {
		fmt.Fprintln(out, "warning:", w)
	}
}
