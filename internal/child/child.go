package child

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// start starts the command with this process's standard files.
func start(args, environ []string) (*exec.Cmd, error) {
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // what the user asks for
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, &StartError{args[0], err}
	}
	return cmd, nil
}

var (
	//go:embed python/sitecustomize.py
	sitecustomize []byte
	//go:embed node/proxyd-exec.cjs
	preloaded []byte
)

// The files of a directory of shims.
const (
	PythonFile = "sitecustomize.py"
	NodeFile   = "proxyd-exec.cjs"
)

// Shims writes the files that make programs use the proxy of their environment, and
// returns their directory: private, for PYTHONPATH and NodeOptions. The caller
// removes it.
func Shims() (string, error) {
	dir, err := os.MkdirTemp("", "proxyd-exec-")
	if err != nil {
		return "", err
	}
	for name, text := range map[string][]byte{PythonFile: sitecustomize, NodeFile: preloaded} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			_ = os.RemoveAll(dir) // what is wrong is known already
			return "", err
		}
	}
	return dir, nil
}

// NodeOptions returns the part of NODE_OPTIONS that loads the shim of Node from a
// directory of shims.
func NodeOptions(dir string) string {
	return `--require "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(filepath.Join(dir, NodeFile)) + `"`
}
