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
	"proxyd/internal/demo"
)

func runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the daemon (also plain `proxyd`)",
		Long: `Run the daemon in the foreground. The log goes to standard error.

SIGTERM and SIGINT stop it: it serves on for stop.grace_seconds, then accepts no
more connections, waits up to drain_seconds for the open tunnels, and closes the
rest. A second signal closes them immediately. SIGHUP reloads the configuration,
as saving the file does. SIGUSR2 hands over to the binary on disk, as proxyd
upgrade does.`,
		Example: "  proxyd run -c proxyd.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, sig := handleSignals(cmd.Context()) // first of all: an early one must not end the process
			d, err := daemon.New(daemon.Options{
				ConfigPath: configPath(cmd), Environ: os.Environ(), Stderr: cmd.ErrOrStderr(), Terminal: terminal(os.Stderr), Version: version, Revision: revision(),
				Next: envLine(cmd),
			})
			if err != nil {
				return err
			}
			return d.Run(ctx, sig)
		},
	}
}

// envLine returns a function that returns the shell line that sets the proxy
// variables. The line has the path of this program unless it is the proxyd on
// PATH, and the configuration file unless it is the system's. listener is an
// address that is not in the configuration, "" for none.
func envLine(cmd *cobra.Command) func(listener string) string {
	words := []string{program(), "env"}
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
			return shellLine(line) + " --shell powershell | Out-String | Invoke-Expression"
		}
		return `eval "$(` + shellLine(line) + `)"`
	}
}

// program returns how a shell calls this program: its path, unless it is the
// proxyd on PATH.
func program() string {
	if self, err := os.Executable(); err == nil && !sameFile(self, lookPath("proxyd")) {
		return self
	}
	return "proxyd"
}

// shellLine returns words as one line of the system's shell: sh, or PowerShell.
func shellLine(words []string) string {
	if runtime.GOOS == "windows" {
		return "& " + quoteWords(words, `''`)
	}
	return quoteWords(words, `'\''`)
}

// lookPath returns the path of a program on PATH, "" if there is none.
func lookPath(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// sameFile reports whether two paths lead to the same file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// quoteWords returns the words as one shell line; quote is how that shell writes a
// single quote within quotes.
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

// handleSignals returns a context that the first SIGTERM or SIGINT cancels, and
// channels for the other signals: a second SIGTERM or SIGINT forces the stop,
// SIGHUP reloads, SIGUSR2 upgrades.
func handleSignals(parent context.Context) (context.Context, daemon.Signals) {
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithCancel(parent)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // else writing the log to a closed pipe would end the process
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	force := make(chan struct{})
	go func() { // ends after the second signal, or with the process
		<-stop
		cancel()
		<-stop
		close(force)
	}()
	return ctx, daemon.Signals{Reload: coalesce(syscall.SIGHUP), Upgrade: coalesce(upgradeSignals...), Force: force}
}

// coalesce returns a channel that receives when one of the signals comes; signals
// that come while one is pending are dropped.
func coalesce(signals ...os.Signal) <-chan struct{} {
	pending := make(chan struct{}, 1)
	if len(signals) == 0 {
		return pending
	}
	received := make(chan os.Signal, 1)
	signal.Notify(received, signals...)
	go func() { // ends with the process
		for range received {
			select {
			case pending <- struct{}{}:
			default: // one is pending already
			}
		}
	}()
	return pending
}

// terminal reports whether f is a terminal.
func terminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show proxyd at work, with fake exchanges and upstreams on this machine",
		Long: `Run a proxyd with a configuration of its own, feeds that stream through it, and fake
exchanges behind fake upstream proxies, all in this process and on free ports of
the loopback address. It needs no configuration and no network, and does not touch
a proxyd that runs.

It prints the address of the page, and lines to try in a second terminal: where
connections go, what happens when an upstream dies, and when a feed goes silent.
Line 1 of the status follows whenever it changes. Ctrl-C ends all of it and removes
its files.`,
		Example: "  proxyd demo",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			parent := cmd.Context()
			if parent == nil {
				parent = context.Background()
			}
			ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop() // not earlier: a second signal must not leave the files behind
			return demo.Run(ctx, demo.Options{Out: cmd.OutOrStdout(), Program: program(), Quote: shellLine, Curl: localCurl(os.Environ()), Version: version})
		},
	}
}

// localCurl returns how to call curl for an address of this machine: past a proxy
// that environ names.
func localCurl(environ []string) []string {
	words := []string{"curl"}
	if runtime.GOOS == "windows" { // PowerShell has another curl
		words[0] = "curl.exe"
	}
	for _, v := range environ {
		if name, value, _ := strings.Cut(v, "="); value != "" && (strings.EqualFold(name, "http_proxy") || strings.EqualFold(name, "all_proxy")) {
			return append(words, "--noproxy", "*")
		}
	}
	return words
}
