package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
	"proxyd/internal/config"
)

// How long a command waits for the daemon's reply.
const (
	requestTimeout = 10 * time.Second
	reloadTimeout  = 2 * time.Minute // a reload may wait for another one
)

func addAdminFlag(cmd *cobra.Command) {
	cmd.Flags().String("admin", "", "the running daemon's admin `ADDR`, host:port or unix:/path (default: the key admin of the configuration)")
}

// adminClient returns a client of the running daemon: at --admin, else at the
// address under admin in the configuration. Errors elsewhere in the file do not
// matter.
func adminClient(cmd *cobra.Command) (*admin.Client, error) {
	flag, _ := cmd.Flags().GetString("admin")
	settings, err := config.AdminOf(configPath(cmd), os.Environ())
	switch {
	case strings.Contains(flag, "@") && !strings.HasPrefix(flag, "unix:"): // it may be a password: not repeated
		return nil, usageError{errors.New("--admin has user information in front; write host:port or unix:/path")}
	case flag != "":
		return admin.NewClient(flag, settings.Token), nil
	case err != nil:
		return nil, fmt.Errorf("%w\nthe admin address is not known; correct the file, or name the address: --admin ADDR", err)
	case settings.Address == "":
		return nil, errors.New(`the admin server is off (admin: ""); set admin: 127.0.0.1:8878 and start proxyd again, or name a running one's address: --admin ADDR`)
	}
	return admin.NewClient(settings.Address, settings.Token), nil
}

// withTimeout returns the command's context with a timeout.
func withTimeout(cmd *cobra.Command, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(cmd.Context(), limit)
}

// exitError returns err so that it leads to the right exit code: 1 for configuration
// errors that have been printed already, 2 for what the daemon finds wrong with the
// call.
func exitError(err error) error {
	var rejected *admin.RejectedError
	var refused *admin.RefusedError
	switch {
	case errors.As(err, &rejected):
		return errReported
	case errors.As(err, &refused) && refused.Status == 400:
		return usageError{err}
	}
	return err
}

// printJSON writes v indented.
func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

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
