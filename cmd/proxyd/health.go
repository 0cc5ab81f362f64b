package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
	"proxyd/internal/config"
)

func healthCommand() *cobra.Command {
	var ready bool
	var timeout float64
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Check that the running daemon is alive; for HEALTHCHECK and exec probes",
		Long: `Check at the admin address that the running daemon is alive, or with --ready that
it accepts new connections. Without an admin server, connect to the first
listener of the configuration and wait for a SOCKS5 reply, so that a daemon that
hangs is found too. Errors in other keys of the file do not matter; if the file
cannot be read at all, the default address is tried.`,
		Example: "  proxyd health && echo alive\n  proxyd health --ready",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			patience := time.Duration(timeout * float64(time.Second))
			known, err := queryHealth(cmd, ready, patience)
			if !known {
				err = pingFirstListener(configPath(cmd), patience)
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return nil
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "check that it accepts new connections")
	cmd.Flags().Float64Var(&timeout, "timeout-seconds", 3, "give up after `SECONDS`")
	addAdminFlag(cmd)
	return cmd
}

// queryHealth sends the question to the admin address. known is false if it cannot
// be answered there: no address is set, nothing listens, or it is another proxyd's.
func queryHealth(cmd *cobra.Command, ready bool, patience time.Duration) (known bool, err error) {
	client, err := adminClient(cmd)
	if err != nil {
		return false, err
	}
	listener := ""
	if named, _ := cmd.Flags().GetString("admin"); named != "" {
		known = true // then it has to be that one
	} else if all, err := config.ClientListeners(configPath(cmd), os.Environ()); err == nil {
		listener = all[0].Address
	}
	ctx, cancel := withTimeout(cmd, patience)
	defer cancel()
	err = client.Healthy(ctx, ready, listener)
	var unreachable *admin.UnreachableError
	var refused *admin.RefusedError
	switch {
	case errors.As(err, &unreachable) && !errors.Is(err, context.DeadlineExceeded):
		return known, err
	case errors.As(err, &refused) && refused.Status != http.StatusServiceUnavailable:
		return known, err
	}
	return true, err
}

// pingFirstListener checks the first listener of the configuration.
func pingFirstListener(path string, patience time.Duration) error {
	all, err := config.ClientListeners(path, os.Environ())
	if err == nil {
		return pingSOCKS(dialable(all[0].Address), all[0].TLS, patience)
	}
	// The file may have been broken after the start: a daemon must not be killed for
	// that.
	if all, defErr := config.ClientListeners("", os.Environ()); defErr != nil || pingSOCKS(dialable(all[0].Address), all[0].TLS, patience) != nil {
		return err
	}
	return nil
}

// pingSOCKS offers SOCKS5 with both methods and expects a well-formed reply, which
// may be that none is acceptable. It names no target, so nothing is dialled.
func pingSOCKS(address string, secured bool, timeout time.Duration) error {
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return fmt.Errorf("nothing answers at %s: %w", address, err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if secured {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // no secret is sent; only that it answers counts
	}
	if _, err := conn.Write([]byte{5, 2, 0, 2}); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	var reply [2]byte
	if _, err := io.ReadFull(conn, reply[:]); err != nil {
		return fmt.Errorf("%s accepts connections but does not answer: %w", address, err)
	}
	if reply[0] != 5 {
		return errors.New(address + " answers, but not as proxyd does")
	}
	return nil
}

// dialable returns the address at which a client on this machine reaches a listener.
func dialable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
