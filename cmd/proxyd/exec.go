package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
	"proxyd/internal/child"
	"proxyd/internal/config"
	"proxyd/internal/daemon"
)

// execOptions are the flags of exec.
type execOptions struct {
	daemon        string
	quiet, noShim bool
	isolate       bool
	hostPorts     []string
	ports         []uint16 // hostPorts, parsed
	allow         []string
}

func execCommand() *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [flags] [--] CMD [ARG…]",
		Short: "Run a command with its connections through proxyd",
		Long: `Run a command with the variables of proxyd env, through the running daemon if it
has this configuration in force, else through an instance of its own on a free
loopback port, for as long as CMD lives. An instance of its own shares no budgets
and health checks with other proxyds, has no admin address and writes no log.

The first lines on standard error say which, the last ones what went through which
upstream and what was refused. Signals, terminal and exit code are those of CMD:
128 and the signal's number if a signal ended it, 127 or 126 if it cannot be
started. As process 1 of a container, exec takes in orphans.

Python programs get a directory on PYTHONPATH whose sitecustomize.py makes aiohttp,
ccxt and old versions of websockets use the proxy, which they do not by themselves.
It has no effect with python -I, -E or -S. Node loads a file by NODE_OPTIONS that does
the same for ws and ccxt. Java gets the proxy by JAVA_TOOL_OPTIONS. --no-shim leaves
all three out.

--isolate is for programs that ignore proxies: it gives CMD a network of its own, in
which every TCP connection comes to an instance of proxyd, names are answered with
addresses that stand for them, and all else (UDP, QUIC) is refused at once. Loopback
is the namespace's own; --host-port lets a port of this machine's in, --allow lets
hosts be reached directly. CMD has no capability and cannot get one. Linux only,
without root where user namespaces are allowed. See docs/any-program.md.`,
		Example: `  proxyd exec -- python feed.py
  proxyd exec -c proxyd.yaml --daemon own -- ./bot --symbol BTCUSDT
  proxyd exec --quiet -- node app.js
  proxyd exec --isolate -- ./bot
  proxyd exec --isolate --host-port 6379 --allow 10.0.0.0/8 -- python feed.py
  proxyd exec --daemon required -- sh -c 'curl -s https://api.kraken.com/0/public/Time'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" {
				return usageError{fmt.Errorf("name the command to run: proxyd exec -- CMD")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("daemon", o.daemon, "auto", "required", "own"); err != nil {
				return err
			}
			if err := o.checkIsolate(); err != nil {
				return err
			}
			if err := child.Find(args[0]); err != nil {
				return err
			}
			return o.run(cmd, args)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows CMD is CMD's
	cmd.Flags().StringVar(&o.daemon, "daemon", "auto", "`WHICH`: the running daemon if it fits, else an instance of its own (auto); required, or own")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but errors")
	cmd.Flags().BoolVar(&o.isolate, "isolate", false, "give CMD a network in which proxyd is the only exit (Linux)")
	cmd.Flags().StringSliceVar(&o.hostPorts, "host-port", nil, "with --isolate: a `PORT` of this machine's loopback that CMD may reach; may be repeated")
	cmd.Flags().StringSliceVar(&o.allow, "allow", nil, "with --isolate: a `CIDR`, an address or a name that CMD may reach directly; may be repeated")
	cmd.Flags().BoolVar(&o.noShim, "no-shim", false, "leave PYTHONPATH, NODE_OPTIONS and the options of Java as they are")
	return cmd
}

// exitStatus is the exit code of a command that has run.
type exitStatus int

// Error is not printed: the command has said what there is to say.
func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// execProxy is where the command's connections go.
type execProxy struct {
	address  string
	shared   bool // others use it too
	run      func(args, environ []string) (int, error)
	used     func() (admin.Exec, error) // what came from the command; waits until that is known
	stop     func() error
	isolated bool                                    // the command has no other exit
	others   func() (lines []string, connected bool) // what did not come through proxyd, and whether there is such; nil where that is not known
}

// run runs the command.
func (o *execOptions) run(cmd *cobra.Command, args []string) error {
	say := func(format string, args ...any) {
		if !o.quiet {
			fmt.Fprintf(cmd.ErrOrStderr(), "proxyd: exec: "+format+"\n", args...)
		}
	}
	path, label, given := configPath(cmd), fmt.Sprintf("exec-%d", os.Getpid()), os.Environ()
	c, snap, err := load(path, config.Options{NoSecrets: true})
	if err != nil {
		return err
	}
	if name := daemon.ProxyVariable(given, c); c.File == "" && name != "" { // proxyd would replace it
		return fmt.Errorf("%s is set, and there is no configuration: CMD would connect directly, and not through that proxy; name the file with -c, or make one: env | proxyd import --from env - > proxyd.yaml; to connect directly, unset the variable", name)
	}
	choose := o.proxy
	if o.isolate {
		choose = o.isolated
	}
	p, err := choose(cmd, c, label, say)
	if err != nil {
		return err
	}
	environ, release, err := o.environ(given, p.address, label, snap.SplitsHosts(), say)
	if err != nil {
		_ = p.stop() // it has served nothing
		return err
	}
	code, err := p.run(args, environ)
	release()
	if err == nil && !o.quiet {
		used, err := p.used()
		writeUsed(say, used, err, p)
	}
	if stopped := p.stop(); err == nil && stopped != nil {
		return stopped
	}
	if err != nil {
		return err
	}
	if code != 0 {
		return exitStatus(code)
	}
	return nil
}

// proxy returns the running daemon or an instance of its own, and says which.
func (o *execOptions) proxy(cmd *cobra.Command, c *config.Config, label string, say func(string, ...any)) (*execProxy, error) {
	why := "as asked"
	if o.daemon != "own" {
		p, unfit := runningDaemon(cmd, c, label, say)
		switch {
		case p != nil:
			return p, nil
		case o.daemon == "required":
			return nil, fmt.Errorf("--daemon required: %w; start proxyd with this file, or use --daemon auto", unfit)
		}
		why = unfit.Error()
	}
	p, err := ownDaemon(cmd, c.File, nil)
	if err != nil {
		return nil, err
	}
	say("an instance of its own at %s with %s (%s); it shares no budgets and health checks with other proxyds", p.address, fileOf(c), why)
	return p, nil
}

// ownDaemon starts an instance for this command alone. inside is what is open in the
// command's network, nil if that is this one.
func ownDaemon(cmd *cobra.Command, path string, inside *daemon.Inside) (*execProxy, error) {
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // it is CMD that is ready or alive for systemd
	}
	d, err := daemon.New(daemon.Options{ConfigPath: path, Environ: os.Environ(), Stderr: io.Discard, Own: true, Inside: inside, Version: version, Revision: revision()})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	force, ended := make(chan struct{}), make(chan error, 1)
	close(force)                                                      // nothing is left to wait for
	go func() { ended <- d.Run(ctx, daemon.Signals{Force: force}) }() // ends with ctx; stop waits for it
	address, _ := d.Own()
	return &execProxy{
		address: address.String(), run: child.Run,
		used: func() (admin.Exec, error) {
			own := func() (admin.Exec, error) { _, x := d.Own(); return x, nil }
			_, _ = settled(own, 0) // no error
			cancel()
			ended <- <-ended // then all is counted
			return own()
		},
		stop: func() error { cancel(); return <-ended },
	}, nil
}

// runningDaemon returns the running daemon, or why it is not the one to use: its
// file must be c's, with the same content, and a listener must take clients as
// they are.
func runningDaemon(cmd *cobra.Command, c *config.Config, label string, say func(string, ...any)) (*execProxy, error) {
	if c.File == "" {
		return nil, errors.New("there is no file whose content it could have")
	}
	client, err := adminClient(cmd)
	if err != nil {
		return nil, errors.New("no admin address leads to a running daemon")
	}
	ask := func() (admin.Status, error) {
		ctx, cancel := context.WithTimeout(cmd.Context(), requestTimeout)
		defer cancel()
		return client.Status(ctx)
	}
	before, err := ask()
	var gone *admin.UnreachableError
	if errors.As(err, &gone) && gone.Refused {
		return nil, fmt.Errorf("no daemon is running at the admin address %s", gone.Address)
	}
	if err != nil {
		return nil, err
	}
	bound, err := fitting(c, config.EnvironmentFingerprint(os.Environ()), before)
	if err != nil {
		return nil, err
	}
	say("the running daemon at %s (process %d, %s), as user %s", bound, before.PID, c.File, label)
	return &execProxy{
		address: bound, shared: true, run: child.Run,
		used: func() (admin.Exec, error) {
			return settled(func() (admin.Exec, error) {
				s, err := ask()
				if err == nil && s.PID != before.PID {
					before = admin.Status{PID: s.PID}
					say("the daemon was replaced meanwhile; what follows is since then")
				}
				return since(execRow(before, label), execRow(s, label)), err
			}, 5)
		},
		stop: func() error { return nil },
	}, nil
}

// fitting returns where the daemon takes the clients of configuration c, or why it
// does not. environ is config.EnvironmentFingerprint of the command.
func fitting(c *config.Config, environ string, s admin.Status) (string, error) {
	switch {
	case s.Config.File == "":
		return "", errors.New("the running daemon has the built-in defaults")
	case c.RealPath() != s.Config.RealPath:
		return "", fmt.Errorf("the running daemon has another file, %s", s.Config.File)
	case s.Config.Hash != c.Fingerprint():
		return "", fmt.Errorf("the running daemon has another content of %s, or of a list that it names, in force; see proxyd status", c.File)
	case environ != "" && environ != s.Config.Environ:
		return "", errors.New("this environment sets PROXYD_ variables that the running daemon does not have")
	case s.State != admin.StateReady:
		return "", fmt.Errorf("the running daemon is %s", s.State)
	}
	i := slices.IndexFunc(c.Listen, func(l config.Listener) bool {
		loopback := func(p netip.Prefix) bool { return p.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1})) }
		return !l.Transparent && l.Use == nil && l.TLSCert == "" && l.Kind == 0 && (len(l.Allow) == 0 || slices.ContainsFunc(l.Allow, loopback))
	})
	if i < 0 {
		return "", fmt.Errorf("%s has no listener without use, kind, tls and transparent", c.File)
	}
	if len(c.Listen[i].Users) > 0 {
		return "", fmt.Errorf("the listener %s asks for a password", c.Listen[i].Address)
	}
	for _, l := range s.Listeners {
		if l.Address != c.Listen[i].Address {
			continue
		}
		if l.Bound != "" {
			return dialable(l.Bound), nil
		}
		return dialable(l.Address), nil
	}
	return "", fmt.Errorf("the running daemon does not listen on %s", c.Listen[i].Address)
}

// environ returns the environment of the command, from what is given. release is
// called when the command has ended.
func (o *execOptions) environ(given []string, address, label string, labelled bool, say func(string, ...any)) (environ []string, release func(), err error) {
	release = func() {}
	p, err := (&envOptions{user: label}).pointers(config.ClientListener{Address: address}, labelled)
	if err != nil {
		return nil, release, err
	}
	set := variables(p)
	var removed []string
	for _, v := range given {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case strings.HasPrefix(strings.ToUpper(name), "CRYPTOFEED_PROXY_"):
			removed = append(removed, name)
		case o.isolate && (name == "LOCALDOMAIN" || name == "RES_OPTIONS"): // they would change what resolv.conf says
		default:
			environ = append(environ, v)
		}
	}
	if len(removed) > 0 {
		say("removed for the command: %s; proxyd chooses the upstreams", strings.Join(removed, ", "))
	}
	if !o.noShim {
		var dir string
		if dir, release, err = child.Shims(); err != nil {
			return nil, release, fmt.Errorf("the directory for PYTHONPATH and NODE_OPTIONS: %w; set TMPDIR to another directory, or use --no-shim", err)
		}
		set = append(set, [2]string{"PYTHONPATH", before(dir, string(os.PathListSeparator), os.Getenv("PYTHONPATH"))},
			[2]string{"NODE_OPTIONS", before(child.NodeOptions(dir), " ", os.Getenv("NODE_OPTIONS"))})
		set = append(set, child.JavaVariables(p.host, p.port, noProxy)...)
		say("Python: aiohttp, ccxt and old websockets use the proxy by %s; Node: ws and ccxt by %s; Java: by JAVA_TOOL_OPTIONS; --no-shim leaves all three out",
			filepath.Join(dir, child.PythonFile), filepath.Join(dir, child.NodeFile))
	}
	for _, s := range set {
		environ = append(environ, s[0]+"="+s[1]) // the last one of a name counts
	}
	return environ, release, nil
}

// before joins two values, of which one may be empty.
func before(first, separator, second string) string {
	if first == "" || second == "" {
		return first + second
	}
	return first + separator + second
}
