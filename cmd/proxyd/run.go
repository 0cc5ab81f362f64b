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
the configuration again, as saving the file does. SIGUSR2 hands over to the
binary now on disk, as proxyd upgrade does.`,
		Example: "  proxyd run -c proxyd.yaml",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, asked := signals(cmd.Context()) // first of all: an early one must not end the process
			d, err := daemon.New(daemon.Options{
				ConfigPath: configPath(cmd), Environ: os.Environ(), Stderr: cmd.ErrOrStderr(), Terminal: terminal(os.Stderr), Version: version, Revision: revision(),
			})
			if err != nil {
				return err
			}
			return d.Run(ctx, asked)
		},
	}
}

// signals turns the first SIGTERM or SIGINT into the end of the context, a
// second one into force, SIGHUP into reload and SIGUSR2 into upgrade.
func signals(parent context.Context) (context.Context, daemon.Signals) {
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithCancel(parent)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // else a log that nobody reads any more would end the process
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	again := make(chan struct{})
	go func() { // ends after the second signal, or with the process
		<-stop
		cancel()
		<-stop
		close(again)
	}()
	return ctx, daemon.Signals{Reload: wishes(syscall.SIGHUP), Upgrade: wishes(upgradeSignals...), Force: again}
}

// wishes turns signals into wishes; those that come while one waits are one with it.
func wishes(signals ...os.Signal) <-chan struct{} {
	wanted := make(chan struct{}, 1)
	if len(signals) == 0 {
		return wanted
	}
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, signals...)
	go func() { // ends with the process
		for range taken {
			select {
			case wanted <- struct{}{}:
			default: // one is waiting already
			}
		}
	}()
	return wanted
}

// terminal reports whether a file is a terminal.
func terminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
