package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the configuration, for editors",
		Example: `  proxyd schema > proxyd.schema.json
  # then, as the file's first line: # yaml-language-server: $schema=proxyd.schema.json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}

func versionCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version and the catalogue's date",
		Example: "  proxyd version --format json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if format == "json" {
				return json.NewEncoder(out).Encode(map[string]string{
					"version": version, "revision": revision(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "catalogue": catalog.Date(),
				})
			}
			_, err := io.WriteString(out, versionText())
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json")
	return cmd
}

func versionText() string {
	return fmt.Sprintf("proxyd %s\ncatalogue %s\n%s %s/%s\n", version, catalog.Date(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

func healthCommand() *cobra.Command {
	var ready bool
	var timeout float64
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask the running daemon whether it lives; for HEALTHCHECK and exec probes",
		Long: `Connect to the first listener of the configuration and wait for an answer at the
protocol level, so that a daemon that hangs is found, not only one that is gone.
The rest of the file may be faulty; if none of it can be read, the default address is tried. One that stops takes nothing new, and fails.`,
		Example: "  proxyd health && echo alive",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			patience := time.Duration(timeout * float64(time.Second))
			address, secured, err := config.ListenAddress(configPath(cmd), os.Environ())
			if err != nil { // broken since the start: a daemon must not be killed for that
				if address, _, fault := config.ListenAddress("", os.Environ()); fault != nil || greet(dialable(address), false, patience) != nil {
					return err
				}
			} else if err := greet(dialable(address), secured, patience); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return nil
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it takes new connections")
	cmd.Flags().Float64Var(&timeout, "timeout-seconds", 3, "give up after so many `SECONDS`")
	return cmd
}

// greet offers SOCKS5 with both methods and wants a well-formed choice back, be
// it that none will do: no target is named, so nothing is dialled.
func greet(address string, secured bool, timeout time.Duration) error {
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return fmt.Errorf("nothing answers at %s: %w", address, err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if secured {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // no secret is sent, and nothing believed but that it lives
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

// dialable is the address at which a client of this machine reaches a listener.
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
