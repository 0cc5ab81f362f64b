package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
)

func reloadCommand() *cobra.Command {
	var dryRun bool
	var format string
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the running daemon load its file again",
		Long: `Make the running daemon load its file again, and print what changed. If the file
has errors, they are printed and nothing changes. Open tunnels are left alone.
Exit code 0 if it was applied, else 1.`,
		Example: `  proxyd reload
  proxyd reload --dry-run            what would change?
  proxyd reload --admin unix:/run/proxyd/admin.sock`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			client, err := adminClient(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := withTimeout(cmd, reloadTimeout)
			defer cancel()
			report, err := client.Reload(ctx, dryRun)
			var rejected *admin.RejectedError
			if err != nil && !errors.As(err, &rejected) {
				return exitError(err)
			}
			if format == "json" {
				if err := printJSON(cmd.OutOrStdout(), report); err != nil {
					return err
				}
				return exitError(err)
			}
			writeReport(cmd.OutOrStdout(), report, dryRun)
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "proxyd: rejected; nothing has changed")
			}
			return exitError(err)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would change, and change nothing")
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json")
	addAdminFlag(cmd)
	return cmd
}

// writeReport prints the errors, or the changes and a summary.
func writeReport(out io.Writer, r admin.Report, dryRun bool) {
	if len(r.Faults) > 0 {
		for _, f := range r.Faults {
			fmt.Fprintln(out, f)
		}
		return
	}
	for _, c := range r.Changes {
		fmt.Fprintln(out, c)
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(out, "warning:", w)
	}
	verb := "loaded"
	if dryRun {
		verb = "ok"
	}
	fmt.Fprintf(out, "%s: %s, %s\n", configName(r.File), verb, changeWords(len(r.Changes), dryRun))
}

func changeWords(n int, dryRun bool) string {
	s := fmt.Sprintf("%d changes", n)
	switch n {
	case 0:
		return "no change"
	case 1:
		s = "1 change"
	}
	if dryRun {
		s += " to come"
	}
	return s
}

// configName returns the file's name for people.
func configName(file string) string {
	if file == "" {
		return "built-in defaults"
	}
	return file
}

func upgradeCommand() *cobra.Command {
	var move bool
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the running binary without refusing a connection",
		Long: `Make the running daemon start the binary that is on disk, with the same
arguments, and hand its listeners over. The old process accepts no new
connections and serves its tunnels until they end or upgrade.drain_seconds have
passed; with --move it hands over the live tunnels too. If the new process does
not start, the old one continues as before. Exit code 0 if it was done, else 1.`,
		Example: `  proxyd upgrade
  proxyd upgrade --move              live tunnels too`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := adminClient(cmd)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if err := client.Upgrade(cmd.Context(), move, func(line string) { fmt.Fprintln(out, line) }); err != nil {
				return err
			}
			fmt.Fprintln(out, "done")
			return nil
		},
	}
	cmd.Flags().BoolVar(&move, "move", false, "move live tunnels to the new process too")
	addAdminFlag(cmd)
	return cmd
}
