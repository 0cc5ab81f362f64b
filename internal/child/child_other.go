//go:build !unix

package child

import (
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
)

// Run runs a command with this process's standard files and returns its exit code.
// The error is a *StartError. Ctrl-C reaches the command by the console.
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
	signals := make(chan os.Signal, 1) // not read: the console has sent it to the command too
	signal.Notify(signals, os.Interrupt)
	defer signal.Stop(signals)
	if err := begin(); err != nil {
		return 0, err
	}
	_ = cmd.Wait() // its error is the exit code
	return cmd.ProcessState.ExitCode(), nil
}

// own reports whether a file is this user's: always here, where each user has a
// directory of temporary files.
func own(fs.FileInfo) bool { return true }

// hold does nothing: no program cleans up these directories on a schedule.
func hold(string) (release func()) { return func() {} }
