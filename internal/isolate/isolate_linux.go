package isolate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setUpTime is how long the set-up may take: it waits for nothing but the kernel,
// which may have to load modules for nftables.
const setUpTime = 30 * time.Second

// Namespace is a network in which a command can run. Its listeners are open, and what
// comes to them waits to be accepted. The caller closes them.
type Namespace struct {
	Listeners   map[string]net.Listener // of Options.Listen; without those of IPv6 on a machine that has none
	Transparent []net.Listener          // what every other TCP connection is redirected to: of IPv4, then of IPv6 if there is one
	ports       []portListener
	udp         []net.PacketConn
	tcp         []net.Listener
	counters    *os.File
	root        *os.File
	cmd         *exec.Cmd
	pipe        pipe
	forward     *forwarder
	resolver    *Resolver
}

// portListener accepts inside for a port of the host's loopback.
type portListener struct {
	port uint16
	net.Listener
}

// Start makes the namespaces and their listeners. names gives names their addresses.
// The error is a *ForbiddenError where the system does not allow it.
func Start(o Options, names *Names) (*Namespace, error) {
	if 2*len(o.Ports)+len(o.Listen)+8 > maxSockets {
		return nil, fmt.Errorf("%d listeners and %d ports are more than one message has room for; leave some out", len(o.Listen), len(o.Ports))
	}
	for fd := range 3 {
		if err := madeOutside(fd); err != nil {
			return nil, err
		}
	}
	n := &Namespace{Listeners: map[string]net.Listener{}, forward: newForwarder(), resolver: NewResolver(names)}
	if err := n.start(o); err != nil {
		n.Close()
		var failed *stageError
		switch {
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			return nil, fmt.Errorf("%w; raise the limit of open files: ulimit -n 1024", err)
		case errors.As(err, &failed):
			return nil, explain(failed, "/")
		}
		return nil, err
	}
	return n, nil
}

// madeOutside returns an error for a standard descriptor that is a network socket:
// inside, it would still lead out.
func madeOutside(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain == unix.AF_UNIX { // no socket
		return nil //nolint:nilerr // as said
	}
	name := [...]string{"standard input", "standard output", "standard error"}[fd]
	return fmt.Errorf("%s is a network socket, which leads out of the namespace; redirect it, for instance to a file, a pipe or /dev/null", name)
}

func (n *Namespace) start(o Options) error {
	ours, theirs, err := newPipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	n.pipe = ours
	self := "/proc/self/exe" // this program, even if its file has been replaced
	if _, err := os.Stat(self); err != nil {
		return fmt.Errorf("%w; mount /proc", err)
	}
	n.cmd = &exec.Cmd{
		Path: self, Args: []string{childName}, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		ExtraFiles: []*os.File{theirs}, SysProcAttr: newNamespaces(),
	}
	if err := n.cmd.Start(); err != nil {
		n.cmd = nil
		return newStageError(stageNamespaces, err)
	}
	theirs.Close()
	_ = n.pipe.SetDeadline(time.Now().Add(setUpTime))
	if err := n.pipe.send(request{Listen: o.Listen, Local: reachable(o.Listen), Ports: o.Ports}); err != nil {
		return fmt.Errorf("the set-up ended early: %w", err)
	}
	var r ready
	files, err := n.pipe.receive(&r)
	if err != nil {
		return fmt.Errorf("the set-up ended early: %w", err)
	}
	_ = n.pipe.SetDeadline(time.Time{})
	if r.Error != nil {
		return r.Error
	}
	return n.take(r.Sockets, files)
}

// newNamespaces has a process start in namespaces of its own, in which it has the
// capabilities that the set-up needs, and its user is who it was.
func newNamespaces() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		// To mount, for the network, to give up the bounding set, and for ports below 1024.
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE},
	}
	a.UidMappings, a.GidMappings = identity("/proc/self/uid_map", os.Getuid()), identity("/proc/self/gid_map", os.Getgid())
	a.GidMappingsEnableSetgroups = mayMapAll() // the kernel wants it off for others
	return a
}

// take makes listeners of the sockets that the child has sent. It owns files.
func (n *Namespace) take(uses []socket, files []*os.File) error {
	defer closeFiles(files) // copies are in use
	if len(uses) != len(files) {
		return fmt.Errorf("%d sockets came, not %d; raise the limit of open files", len(files), len(uses))
	}
	for i, u := range uses {
		switch u.Use {
		case useCounters:
			n.counters, files[i] = files[i], nil
			continue
		case useRoot:
			n.root, files[i] = files[i], nil
			n.resolver.search = func() search { return parseSearch(visibleResolvConf(n.root)) }
			continue
		case useUDP:
			c, err := net.FilePacketConn(files[i])
			if err != nil {
				return err
			}
			n.udp = append(n.udp, c)
			continue
		}
		l, err := net.FileListener(files[i])
		if err != nil {
			return err
		}
		switch u.Use {
		case useListen:
			n.Listeners[u.Listen] = l
		case usePort:
			n.ports = append(n.ports, portListener{u.Port, l})
		case useTransparent:
			n.Transparent = append(n.Transparent, l)
		default:
			n.tcp = append(n.tcp, l)
		}
	}
	return nil
}

// Command returns the process that Run makes the command.
func (n *Namespace) Command() *exec.Cmd { return n.cmd }

// Serve answers name queries and connects the ports until ctx ends, and waits for
// what it has started. The caller serves Listeners and Transparent.
func (n *Namespace) Serve(ctx context.Context) {
	done := make(chan struct{})
	go func() { // ends with ctx; waited for below
		defer close(done)
		n.resolver.Serve(ctx, n.udp, n.tcp)
	}()
	n.forward.serve(ctx, n.ports)
	<-done
}

// Run has the process of Command become a command. The error is a *CommandError if it
// cannot be executed.
func (n *Namespace) Run(args, environ []string) error {
	if err := n.pipe.send(start{bytes(args), bytes(environ)}); err != nil {
		return fmt.Errorf("the set-up ended early: %w", err)
	}
	var f failed
	_, err := n.pipe.receive(&f)
	n.pipe.Close()
	switch {
	case err != nil: // io.EOF: it was executed; else it was ended before
		return nil //nolint:nilerr // its exit code says so
	case f.Error.Stage == stageCommand && f.Error.Errno != 0:
		return &CommandError{f.Error.Errno}
	}
	return explain(f.Error, "/")
}

// Close ends a Namespace in which no command is to run any more.
func (n *Namespace) Close() {
	if n.pipe.UnixConn != nil {
		n.pipe.Close()
	}
	for _, l := range slices.Concat(slices.Collect(maps.Values(n.Listeners)), n.Transparent, n.tcp) {
		l.Close()
	}
	for _, p := range n.ports {
		p.Close()
	}
	for _, c := range n.udp {
		c.Close()
	}
	n.counters.Close()
	n.root.Close()
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
	}
}

// Ports returns what went to ports of the host's loopback.
func (n *Namespace) Ports() []PortUse { return n.forward.used() }

func bytes(list []string) (b [][]byte) {
	for _, s := range list {
		b = append(b, []byte(s))
	}
	return b
}

// reachable returns the addresses, other than loopback, at which listeners are
// reached: those of the machine's interfaces where they listen on all.
func reachable(listen []string) (list []netip.AddrPort) {
	for _, address := range listen {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			continue // to listen will fail, and say so
		}
		if host == "" {
			host = "::"
		}
		at, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
		switch {
		case err != nil || at.Port() == 0 || at.Addr().IsLoopback():
		case !at.Addr().IsUnspecified():
			list = append(list, netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()))
		default:
			addrs, _ := net.InterfaceAddrs() // without them, loopback is left
			for _, a := range addrs {
				if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
					list = append(list, netip.AddrPortFrom(p.Addr().Unmap(), at.Port()))
				}
			}
		}
	}
	return list
}
