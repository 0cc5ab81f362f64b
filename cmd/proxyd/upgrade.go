package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func upgradeCommand() *cobra.Command {
	var move bool
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Hand over to the binary now on disk, without a refused connection",
		Long: `Make the running daemon start the binary that is now on disk, with the same
arguments, and hand its listeners over. The old process takes nothing new and
serves its tunnels until they end or upgrade.drain_seconds have passed; with
--move live tunnels change over too. If the new one does not come up, the old
one goes on as if nothing had happened. Exit code 0 if it was done, else 1.`,
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
