package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"proxyd/internal/daemon"
)

func runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the daemon (also plain `proxyd`)",
		Long: `Run the daemon in the foreground. The log goes to standard error.

SIGTERM and SIGINT stop it: it accepts nothing more, waits drain_seconds for the
open tunnels, and closes the rest; a second signal closes at once. SIGHUP reads
the configuration again.`,
		Example: "  proxyd run -c proxyd.yaml",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := daemon.New(daemon.Options{
				ConfigPath: configPath(cmd), Environ: os.Environ(), Stderr: cmd.ErrOrStderr(), Terminal: terminal(os.Stderr), Version: version,
			})
			if err != nil {
				return err
			}
			ctx, asked := signals(cmd.Context())
			return d.Run(ctx, asked)
		},
	}
}

// signals turns the first SIGTERM or SIGINT into the end of the context, a
// second one into force, and SIGHUP into reload.
func signals(parent context.Context) (context.Context, daemon.Signals) {
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithCancel(parent)
	stop, hup := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	signal.Notify(hup, syscall.SIGHUP)
	again, reloads := make(chan struct{}), make(chan struct{}, 1)
	go func() { // ends after the second signal, or with the process
		<-stop
		cancel()
		<-stop
		close(again)
	}()
	go func() { // ends with the process
		for range hup {
			select {
			case reloads <- struct{}{}:
			default: // one is waiting already
			}
		}
	}()
	return ctx, daemon.Signals{Reload: reloads, Force: again}
}

// terminal reports whether a file is a terminal.
func terminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
