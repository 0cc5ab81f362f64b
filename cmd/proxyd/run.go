package main

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"proxyd/internal/config"
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
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, asked := signals(cmd.Context()) // first of all: an early one must not end the process
			d, err := daemon.New(daemon.Options{
				ConfigPath: configPath(cmd), Environ: os.Environ(), Stderr: cmd.ErrOrStderr(), Terminal: terminal(os.Stderr), Version: version, Revision: revision(),
				Next: envLine(cmd),
			})
			if err != nil {
				return err
			}
			return d.Run(ctx, asked)
		},
	}
}

// envLine gives the line that points a shell here: with the file, unless every
// shell finds the same one, and by a path to this program unless it is the
// proxyd on PATH. listener is an address that the configuration does not say.
func envLine(cmd *cobra.Command) func(listener string) string {
	words := []string{"proxyd"}
	if self, err := os.Executable(); err == nil && !sameFile(self, lookPath("proxyd")) {
		words[0] = self
	}
	words = append(words, "env")
	if path := configPath(cmd); path != "" && path != config.SystemFile {
		if full, err := filepath.Abs(path); err == nil {
			path = full
		}
		words = append(words, "-c", path)
	}
	return func(listener string) string {
		line := slices.Clone(words)
		if listener != "" {
			line = append(line, "--listener", listener)
		}
		if runtime.GOOS == "windows" {
			return "& " + quoteWords(line, `''`) + " --shell powershell | Out-String | Invoke-Expression"
		}
		return `eval "$(` + quoteWords(line, `'\''`) + `)"`
	}
}

// lookPath is the program of that name on PATH, "" if there is none.
func lookPath(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// sameFile reports whether two paths lead to one file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// quoteWords joins words for a shell; quote is how it writes a quote in quotes.
func quoteWords(words []string, quote string) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = w
		if strings.ContainsFunc(w, func(c rune) bool {
			return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-._~+/:,@", c))
		}) {
			list[i] = "'" + strings.ReplaceAll(w, "'", quote) + "'"
		}
	}
	return strings.Join(list, " ")
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
