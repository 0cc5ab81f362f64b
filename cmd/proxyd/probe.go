package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/health"
	"proxyd/internal/router"
)

// listSchemes are what --scheme takes.
var listSchemes = []string{"http", "https", "socks4", "socks4a", "socks5", "socks5h"}

// probeOptions are the flags of probe.
type probeOptions struct {
	all, force, ok       bool
	kind, format         string
	exitIP, list, sha256 string
	scheme               string // of lines of list without one
	timeout              float64
	timeoutSet, hashSet  bool
	concurrency          int
	listed               []string // the lines of list, in the order of its pool's members
	kinds                []catalog.Kind
	perProbe             time.Duration
	config               *config.Config
	snapshot             *router.Router
	exchanges            []string
	daemon               daemonState // of the running daemon
	progress             func(done, of int)
	announce             func(format string, args ...any)
}

func probeCommand() *cobra.Command {
	var o probeOptions
	cmd := &cobra.Command{
		Use:   "probe [EXCHANGE...]",
		Short: "Test upstreams against exchanges for real, and time each step",
		Long: `Test upstreams against exchanges for real: through each upstream that a route
uses for an exchange, request the exchange's public REST address and its
websocket address, once each, and print the result. Every step is timed, in ms: DNS (only
of names resolved here), TCP, the proxy's handshake, TLS, the REST answer, the
websocket upgrade, and its first message. No keys are sent. Without EXCHANGE:
those that the configuration has an entry for. No running daemon is needed; if one runs,
pairs that it knows to be rate-limited are skipped.

The verdicts: ok; geoblocked, rate_limited, blocked as the exchange says;
unknown if its answer says nothing about the upstream; else what failed before
the exchange was reached, such as upstream_auth. SSL_CERT_FILE names other root certificates.

With --list the proxies come from a file or URL, in the forms that proxyd import
reads. --ok then prints those that passed, with their passwords, as YAML for a pool.
Exit code 0 if all are ok, 1 if some are not, 2 for wrong usage.`,
		Example: `  proxyd probe                                        what the configuration uses
  proxyd probe --all binance okx                      every upstream, used or not
  proxyd probe --format json | jq '.[] | select(.verdict != "ok")'
  proxyd probe --exit-ip https://api.ipify.org        the addresses for an allow-list
  proxyd probe --list proxies.txt --ok binance > pool.yaml`,
		Args: usageArgs(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.timeoutSet, o.hashSet = cmd.Flags().Changed("timeout-seconds"), cmd.Flags().Changed("sha256")
			if err := o.check(); err != nil {
				return err
			}
			if err := o.prepare(cmd.Context(), cmd, args); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt) // not before: there is nothing to print yet
			defer stop()
			context.AfterFunc(ctx, stop) // the second one ends the process
			if o.exitIP != "" {
				return o.probeExits(ctx, cmd)
			}
			return o.probePairs(ctx, cmd)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "every upstream of the configuration with every exchange, whether a route uses the pair or not")
	f.StringVar(&o.kind, "kind", "", "`KIND` to probe: http or websocket (default: both)")
	f.BoolVar(&o.force, "force", false, "probe rate-limited pairs too, which may lengthen a ban")
	f.StringVar(&o.exitIP, "exit-ip", "", "request `URL`, which returns the caller's address, through each upstream; no exchange is probed")
	f.StringVar(&o.list, "list", "", "probe the proxies of `FILE` (- for standard input) or https URL")
	f.StringVar(&o.scheme, "scheme", "http", "`SCHEME` of lines of --list without one: "+strings.Join(listSchemes, ", "))
	f.StringVar(&o.sha256, "sha256", "", "expected SHA-256 of --list, in `HEX`")
	f.BoolVar(&o.ok, "ok", false, "with --list: print only the proxies that are ok for all, as YAML for a pool")
	f.IntVar(&o.concurrency, "concurrency", 8, "run up to `N` probes at once, 1 to 256")
	f.Float64Var(&o.timeout, "timeout-seconds", 5, "timeout of a probe in `SECONDS` (default: the pool's health_check, else 5)")
	f.StringVar(&o.format, "format", "text", "`FORMAT`: text or json")
	addAdminFlag(cmd)
	return cmd
}

// check returns a usage error if the flags are wrong.
func (o *probeOptions) check() error {
	if err := oneOf("format", o.format, "text", "json"); err != nil {
		return err
	}
	o.kinds = health.Kinds[:]
	if o.kind != "" {
		k, err := catalog.ParseKind(o.kind)
		if err != nil {
			return usageError{fmt.Errorf("--kind %s: %w", o.kind, err)}
		}
		if k != catalog.KindBoth {
			o.kinds = []catalog.Kind{k}
		}
	}
	if err := oneOf("scheme", o.scheme, listSchemes...); err != nil {
		return err
	}
	switch {
	case o.concurrency < 1 || o.concurrency > 256:
		return usageError{fmt.Errorf("--concurrency %d: must be 1 to 256", o.concurrency)}
	case !(o.timeout >= 0.1 && o.timeout <= 300):
		return usageError{fmt.Errorf("--timeout-seconds %g: must be 0.1 to 300", o.timeout)}
	case o.list == "" && o.ok:
		return usageError{errors.New("--ok is for --list")}
	case o.list == "" && o.hashSet:
		return usageError{errors.New("--sha256 is for --list")}
	case o.hashSet && len(o.sha256) != hex.EncodedLen(sha256.Size): // a variable that is not set must not disable the check
		return usageError{errors.New("--sha256: not 64 hex digits")}
	case o.list != "" && o.all:
		return usageError{errors.New("--all is for the configuration's upstreams, not for --list")}
	case o.ok && o.format != "text":
		return usageError{errors.New("--ok prints YAML; leave --format out")}
	}
	o.perProbe = time.Duration(o.timeout * float64(time.Second))
	return nil
}

// prepare reads the configuration and what else is needed before the first probe.
func (o *probeOptions) prepare(ctx context.Context, cmd *cobra.Command, args []string) error {
	errOut := cmd.ErrOrStderr()
	o.announce = func(format string, a ...any) { fmt.Fprintf(errOut, format+"\n", a...) }
	o.progress = progressOn(errOut)
	c, snap, err := load(configPath(cmd), config.Options{})
	if err != nil {
		return err
	}
	o.config, o.snapshot = c, snap
	if o.exchanges, err = o.selectExchanges(args); err != nil {
		return err
	}
	if o.list != "" {
		return o.readList(ctx, cmd.InOrStdin())
	}
	if o.exitIP == "" {
		o.daemon = queryState(cmd)
	}
	return nil
}

// selectExchanges returns the exchanges to probe: those named, else those with an
// entry in the configuration.
func (o *probeOptions) selectExchanges(args []string) (ids []string, err error) {
	have := health.Configured(o.config)
	if len(args) == 0 {
		if len(have) == 0 && o.exitIP == "" {
			return nil, usageError{errors.New("no exchange has an entry in the configuration: name some, as in: proxyd probe binance")}
		}
		return have, nil
	}
	for _, name := range args {
		id, ok := o.config.Known().Resolve(name)
		if !ok && slices.Contains(have, strings.ToLower(name)) {
			id, ok = strings.ToLower(name), true
		}
		if !ok {
			return nil, usageError{unknownExchange(o.config.Known(), name)}
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// daemonState is what a running daemon knows of pairs.
type daemonState struct {
	bans  map[pairKey]time.Time // rate-limited until then
	feeds map[pairKey]bool      // websocket tunnels are open; without a kind
}

type pairKey struct{ upstream, exchange, kind string }

// queryState returns what a running daemon knows, nothing if none runs.
func queryState(cmd *cobra.Command) daemonState {
	k := daemonState{map[pairKey]time.Time{}, map[pairKey]bool{}}
	client, err := adminClient(cmd)
	if err != nil {
		return k
	}
	ctx, cancel := withTimeout(cmd, 2*time.Second)
	defer cancel()
	status, err := client.Status(ctx)
	if err != nil {
		return k
	}
	for _, u := range status.Upstreams {
		for _, v := range u.Verdicts {
			if v.Verdict == string(health.RateLimited) && v.Until != nil {
				k.bans[pairKey{u.Name, v.Exchange, v.Kind}] = *v.Until
			}
		}
	}
	for _, c := range status.Tunnels {
		if c.Kind == catalog.KindWebsocket.String() && c.Tunnels > 0 {
			k.feeds[pairKey{upstream: c.Upstream, exchange: c.Exchange}] = true
		}
	}
	return k
}
