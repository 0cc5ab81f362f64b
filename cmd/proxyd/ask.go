package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
	"proxyd/internal/config"
)

// How long a command waits for the daemon's answer.
const (
	askTime    = 10 * time.Second
	changeTime = 2 * time.Minute // a reload may wait for another one
)

func addAdminFlag(cmd *cobra.Command) {
	cmd.Flags().String("admin", "", "the running daemon's admin `ADDR`, host:port or unix:/path (default: the key admin of the configuration)")
}

// adminClient finds the running daemon: --admin, else the admin key of the
// configuration, whose other faults do not matter.
func adminClient(cmd *cobra.Command) (*admin.Client, error) {
	flag, _ := cmd.Flags().GetString("admin")
	settings, err := config.AdminOf(configPath(cmd), os.Environ())
	switch {
	case flag != "":
		return admin.NewClient(flag, settings.Token), nil
	case err != nil:
		return nil, fmt.Errorf("%w\nthe admin address is not known; mend the file, or name it: --admin ADDR", err)
	case settings.Address == "":
		return nil, errors.New(`the admin server is off (admin: ""); set admin: 127.0.0.1:8878 and start proxyd again, or name a running one's address: --admin ADDR`)
	}
	return admin.NewClient(settings.Address, settings.Token), nil
}

// withTimeout is a command's context with a limit.
func withTimeout(cmd *cobra.Command, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(cmd.Context(), limit)
}

// exitError makes faults that have been printed already end in exit code 1, and
// what the daemon finds wrong with the call in 2.
func exitError(err error) error {
	var rejected *admin.RejectedError
	var refused *admin.RefusedError
	switch {
	case errors.As(err, &rejected):
		return errSilent
	case errors.As(err, &refused) && refused.Status == 400:
		return usageError{err}
	}
	return err
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
