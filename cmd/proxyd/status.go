package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
)

// watchInterval is the interval of --watch.
const watchInterval = 2 * time.Second

func statusCommand() *cobra.Command {
	var watch bool
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the running daemon is doing, problems first",
		Long: `Show what the running daemon is doing. The first line is "ok", or names every
exchange that is lost, the worst first; other problems follow, a line each. Then come
the exchanges that are lost, with what to do, the feeds, and the upstreams.

DOWN/S is what the exchange sent in the last second, QUIET the time since its last
byte, FAIL/H the requests that failed in the last hour. An upstream's budget is LEFT
as connections that it would admit now; "watched": proxyd does not enforce it.

Exit code 0, or 1 if the daemon cannot be reached.`,
		Example: `  proxyd status
  proxyd status --watch
  proxyd status --format json | jq .upstreams
  proxyd status --admin unix:/run/proxyd/admin.sock`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			client, err := adminClient(cmd)
			if err != nil {
				return err
			}
			if watch {
				ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
				defer stop()
				cmd.SetContext(ctx)
				return keepShowing(cmd, client, format)
			}
			return showStatus(cmd, client, format, false)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every 2 seconds, in place, until interrupted")
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json (with --watch: an object a line)")
	addAdminFlag(cmd)
	return cmd
}

// keepShowing prints the status until the context ends. It goes on while the daemon
// is unreachable, and prints that; but it does not begin then. On a terminal it draws
// over the last one, on the alternate screen.
func keepShowing(cmd *cobra.Command, client *admin.Client, format string) error {
	if _, err := askStatus(cmd, client); err != nil {
		return err
	}
	if file, ok := cmd.OutOrStdout().(*os.File); ok && terminal(file) && format != "json" {
		s := screen{out: file}
		s.enter()
		defer s.leave()
		return eachInterval(cmd, func() error { return s.draw(statusOrError(cmd, client)) })
	}
	return eachInterval(cmd, func() error {
		var unreachable *admin.UnreachableError
		err := showStatus(cmd, client, format, true)
		if errors.As(err, &unreachable) {
			fmt.Fprintln(cmd.ErrOrStderr(), "proxyd:", err)
			return nil
		}
		return err
	})
}

// eachInterval runs show now and at each interval, until the context ends.
func eachInterval(cmd *cobra.Command, show func() error) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if err := show(); err != nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

func askStatus(cmd *cobra.Command, client *admin.Client) (admin.Status, error) {
	ctx, cancel := withTimeout(cmd, requestTimeout)
	defer cancel()
	return client.Status(ctx)
}

// statusOrError returns what a terminal shows: the status, or why there is none.
func statusOrError(cmd *cobra.Command, client *admin.Client) func(width int) string {
	s, err := askStatus(cmd, client)
	return func(width int) string {
		v := statusView{width: width, colour: os.Getenv("NO_COLOR") == "", now: time.Now()}
		if err != nil {
			v.problem("proxyd: " + err.Error())
		} else {
			v.status(s)
		}
		return v.String()
	}
}

func showStatus(cmd *cobra.Command, client *admin.Client, format string, again bool) error {
	s, err := askStatus(cmd, client)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if format == "json" {
		if again {
			return json.NewEncoder(out).Encode(s)
		}
		return printJSON(out, s)
	}
	v := statusView{width: defaultWidth, now: time.Now()}
	if file, ok := out.(*os.File); ok && terminal(file) {
		v.colour = os.Getenv("NO_COLOR") == ""
		if width, _ := terminalSize(file); width > 0 {
			v.width = width
		}
	}
	v.status(s)
	if again {
		v.line("")
	}
	_, err = io.WriteString(out, v.String())
	return err
}
