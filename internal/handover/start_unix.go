//go:build unix

package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Start starts the next process. It accepts nothing before Child.Ready and
// Child.Go; until then, whatever happens to it, this process goes on. The error
// says why it could not.
func (u *Upgrader) Start(o StartOptions) (*Child, error) {
	if err := endsContainer(os.Getpid(), os.Getppid(), firstProcess); err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.replaced:
		return nil, ErrReplaced
	case u.child != nil && !u.child.gone():
		return nil, ErrRunning
	}
	c, err := start(o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Path, err)
	}
	c.upgrader, u.child = u, c
	return c, nil
}

func start(o StartOptions) (*Child, error) {
	if o.Env == nil {
		o.Env = os.Environ()
	}
	step, serves := o.Step, o.Step
	if o.Step == 0 {
		// Tunnels stand still during a step. To begin to serve holds up no tunnel, and
		// a busy machine must not cost the upgrade.
		step, serves = time.Second, 10*time.Second
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = syscall.Close(theirs) }() // else the child's end would never be seen
	pid, err := spawn(o, theirs)
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_ = ours.Close()
		return nil, err
	}
	c := &Child{PID: pid, wire: wire{conn: ours}, process: process, exited: make(chan struct{}), step: step, serves: serves, listeners: o.Listeners}
	go func() { // ends with the child, for which it waits; a parent that ends first leaves the child to init
		defer close(c.exited)
		c.state, _ = process.Wait()
	}()
	return c, nil
}

// spawn starts the program with nothing open but its standard files, its end of
// the socket pair as 3, and the listeners from 4 on.
func spawn(o StartOptions, socket int) (pid int, err error) {
	given := inheritance{Parent: os.Getpid()}
	conns := make([]syscall.Conn, len(o.Listeners))
	for i, l := range o.Listeners {
		c, ok := l.Listener.(syscall.Conn)
		if !ok {
			return 0, fmt.Errorf("listener %s is a %T, which has no socket of its own", l.Name, l.Listener)
		}
		conns[i] = c
		given.Listeners = append(given.Listeners, l.Name)
	}
	text, err := json.Marshal(given)
	if err != nil {
		return 0, err
	}
	env := append(childEnviron(o.Env), variable+"="+string(text))
	err = withDescriptors(conns, nil, func(fds []int) error {
		files := []uintptr{0, 1, 2, uintptr(socket)} //nolint:gosec // a descriptor is not negative
		for _, fd := range fds {
			files = append(files, uintptr(fd)) //nolint:gosec // likewise
		}
		pid, err = syscall.ForkExec(o.Path, os.Args, &syscall.ProcAttr{Env: env, Files: files})
		return err
	})
	return pid, err
}

// childEnviron leaves out what was meant for this process alone: the sockets that
// systemd gave it, and that its watchdog looks at this process id.
// NOTIFY_SOCKET stays: the child reports to systemd when it is the main process.
func childEnviron(env []string) []string {
	kept := make([]string, 0, len(env)+1)
	for _, e := range env {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID", variable:
		default:
			kept = append(kept, e)
		}
	}
	return kept
}

// endsContainer refuses where the end of this process would end its container,
// and its replacement with it. first gives the name of process 1.
func endsContainer(pid, parent int, first func() string) error {
	const instead = "would end the container, the new process with it; start a new container instead, which takes new connections while this one drains"
	switch {
	case pid == 1:
		return errors.New("this process is PID 1 of its container; replacing it " + instead)
	case parent == 0:
		return errors.New("this process is the main one of its container (its parent is outside); replacing it " + instead)
	case parent == 1:
		switch name := first(); name {
		case "tini", "docker-init", "dumb-init", "catatonit":
			return fmt.Errorf("this process was started by %s, PID 1 of its container, which ends with it; replacing it %s", name, instead)
		}
	}
	return nil
}

// firstProcess returns the name of process 1, "" where the system does not say.
func firstProcess() string {
	name, _ := os.ReadFile("/proc/1/comm")
	return strings.TrimSpace(string(name))
}

// keepFile makes unix listeners leave their file where it is when they are
// closed, or not: the next process listens there.
func keepFile(listeners []Listener, keep bool) {
	for _, l := range listeners {
		if u, ok := l.Listener.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(!keep)
		}
	}
}
