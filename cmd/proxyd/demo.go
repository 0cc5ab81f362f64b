package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"proxyd/internal/demo"
)

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
