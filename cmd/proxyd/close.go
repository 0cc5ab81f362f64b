package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
)

func closeCommand() *cobra.Command {
	var wanted tunnelFlags
	var over string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "close",
		Short: "Close live tunnels, so that their clients connect again",
		Long: `Close the live tunnels of the running daemon that match all filters; at least one
is needed. Their clients see the connection end, and connect again. --over spreads
that evenly, so that they do not come back all at once; it goes on when this command
has ended, until the daemon stops or is replaced.

Exit code 0, or 1 if no tunnel matches or a name is not known.`,
		Example: `  proxyd close --exchange okx --kind websocket --upstream tokyo-1
  proxyd close --upstream tokyo-1 --over 60
  proxyd close --exchange binance --quiet 30s --dry-run
  proxyd close --id 5f3a91-2k`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := wanted.filter(cmd)
			if err != nil {
				return err
			}
			if f == (admin.Filter{}) {
				return usageError{errors.New("say which tunnels: --exchange, --upstream, --kind, --quiet or --id, or several of them")}
			}
			var spread time.Duration
			if over != "" && over != "0" {
				if spread, err = admin.ParseDuration(over); err != nil {
					return usageError{fmt.Errorf("--over: %w", err)}
				}
			}
			return closeTunnels(cmd, f, spread, dryRun)
		},
	}
	wanted.add(cmd)
	cmd.Flags().StringVar(&over, "over", "", "spread it evenly over so many `SECONDS`")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only list what would be closed")
	addAdminFlag(cmd)
	return cmd
}

func closeTunnels(cmd *cobra.Command, f admin.Filter, over time.Duration, dryRun bool) error {
	client, err := adminClient(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := withTimeout(cmd, requestTimeout)
	defer cancel()
	if dryRun {
		list, err := client.Tunnels(ctx, f)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			writeTunnels(cmd.OutOrStdout(), list, time.Now())
		}
	}
	reply, err := client.Close(ctx, f, over, dryRun)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), reply)
	return nil
}
