//go:build unix

package child

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Run runs a command with this process's standard files and returns its exit code,
// 128 and the signal's number where a signal ended it. The error is a *StartError.
//
// The command is in this process's own group, so that the terminal, its shell's job
// control and other members of a pipeline are as they would be without this process.
func Run(args, environ []string) (int, error) {
	cmd := command(args, environ)
	return Supervise(cmd, func() error {
		if err := cmd.Start(); err != nil {
			return &StartError{args[0], err}
		}
		return nil
	})
}

// Supervise is Run for a command that begin starts, whose error it returns.
func Supervise(cmd *exec.Cmd, begin func() error) (int, error) {
	signals := make(chan os.Signal, 16)
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(s) { // as nohup leaves SIGHUP: the command ignores it too
			signal.Notify(signals, s)
		}
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // else the last lines could end this process
	defer signal.Stop(signals)
	if err := begin(); err != nil {
		return 0, err
	}
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with ended; Run waits for it
		defer close(stopped)
		for {
			select {
			case s := <-signals:
				if !fromTerminal(s) {
					_ = cmd.Process.Signal(s) // fails only when it has ended
				}
			case <-ended:
				return
			}
		}
	}()
	status := wait(cmd)
	close(ended)
	<-stopped
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// wait returns how the command ended. Process 1 meanwhile takes away every other
// process that has ended: there, no other one can.
func wait(cmd *exec.Cmd) (status syscall.WaitStatus) {
	if os.Getpid() != 1 {
		_ = cmd.Wait() // its error is the exit code
		status, _ = cmd.ProcessState.Sys().(syscall.WaitStatus)
		return status
	}
	for {
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if pid == cmd.Process.Pid || err != nil && !errors.Is(err, syscall.EINTR) {
			return status
		}
	}
}

// fromTerminal reports whether a signal is one that the terminal sends to its whole
// foreground group: the command, in the same group, has it already.
func fromTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// own reports whether a file is this user's, and no other may write in it.
func own(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid() && info.Mode().Perm()&0o022 == 0
}

// hold takes a lock of a directory that systemd-tmpfiles respects, until the returned
// function is called.
func hold(dir string) (release func()) {
	f, err := os.Open(dir) //nolint:gosec // written by this process
	if err != nil {
		return func() {}
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) // some file systems have no locks
	return func() { _ = f.Close() }
}
