package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func drainCommand() *cobra.Command {
	return drainOrResume(true, &cobra.Command{
		Use:   "drain UPSTREAM [EXCHANGE]",
		Short: "Stop new connections through an upstream",
		Long: `Make the running daemon open no new connections through an upstream, or none
through it to one exchange. Open tunnels stay. It lasts until proxyd resume or a
restart; proxyd status shows it.`,
		Example: "  proxyd drain tokyo-1\n  proxyd drain tokyo-1 binance",
	})
}

func resumeCommand() *cobra.Command {
	return drainOrResume(false, &cobra.Command{
		Use:     "resume UPSTREAM [EXCHANGE]",
		Short:   "Use a drained upstream again",
		Long:    "Make the running daemon use a drained upstream again.",
		Example: "  proxyd resume tokyo-1\n  proxyd resume tokyo-1 binance",
	})
}

func drainOrResume(on bool, cmd *cobra.Command) *cobra.Command {
	cmd.Args = usageArgs(cobra.RangeArgs(1, 2))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := adminClient(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := withTimeout(cmd, requestTimeout)
		defer cancel()
		reply, err := client.Drain(ctx, args[0], append(args, "")[1], on)
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), reply)
		return nil
	}
	addAdminFlag(cmd)
	return cmd
}
