package child

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
)

// StartError is a command that could not be started.
type StartError struct {
	Name string
	Err  error
}

// Error says what to do.
func (e *StartError) Error() string {
	switch {
	case errors.Is(e.Err, exec.ErrDot):
		return fmt.Sprintf("%s is in this directory alone; to run it from here, write its path: ./%s", e.Name, e.Name)
	case e.notFound() && Find(e.Name) == nil:
		return fmt.Sprintf("%s is there, but not the interpreter that its first line names, or its loader; correct that line, or install what it names", e.Name)
	case e.notFound():
		return fmt.Sprintf("%s: no such command; check its name, and PATH", e.Name)
	case errors.Is(e.Err, fs.ErrPermission):
		return fmt.Sprintf("%s may not be executed; chmod +x it, or name its interpreter", e.Name)
	}
	return fmt.Sprintf("%s could not be started: %v", e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// Code returns the exit code that shells have for it: 127 or 126.
func (e *StartError) Code() int {
	if e.notFound() {
		return 127
	}
	return 126
}

func (e *StartError) notFound() bool {
	return errors.Is(e.Err, exec.ErrNotFound) || errors.Is(e.Err, fs.ErrNotExist)
}

// Find returns a *StartError if there is no such command, or it may not be executed.
func Find(name string) error {
	if _, err := exec.LookPath(name); err != nil {
		return &StartError{name, err}
	}
	return nil
}

// command returns the command with this process's standard files.
func command(args, environ []string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // what the user asks for
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, os.Stdin, os.Stdout, os.Stderr
	return cmd
}
