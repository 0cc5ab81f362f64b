package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// release is what is built, from what, and where it is written.
type release struct {
	root    string // the checkout
	out     string
	version string // as proxyd version prints it
	time    time.Time
	targets []target
	logging sync.Mutex
	log     io.Writer // guarded by logging
}

// git returns what one git command prints, without the line end.
func (r *release) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.root
	out, err := output(cmd)
	return strings.TrimRight(string(out), "\n"), err
}

// goRun runs a program of a module, MODULE/PATH@VERSION, at the root of the checkout. As
// a tool of the module it would put its modules into tools/go.mod. It is built in the
// same manner everywhere, since it may write its own hash.
func (r *release) goRun(ctx context.Context, program string, environ []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", program}, args...)...)
	cmd.Dir = r.root
	cmd.Env = slices.Concat(os.Environ(), environ, []string{"CGO_ENABLED=0", "GOFLAGS=-trimpath", "GOWORK=off"})
	_, err := output(cmd)
	return err
}

// sourceTime returns the time of all files: $SOURCE_DATE_EPOCH, else that of the
// commit.
func (r *release) sourceTime(ctx context.Context) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		var err error
		if text, err = r.git(ctx, "log", "-1", "--format=%ct"); err != nil {
			return time.Time{}, err
		}
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q is not a number of seconds", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// clean removes what an earlier run has left, so that checksums.txt lists this run
// alone. A directory that is not of an earlier run is an error. With only some steps
// nothing is removed.
func (r *release) clean(only []string) error {
	entries, err := os.ReadDir(r.out)
	switch {
	case errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 || len(only) > 0:
		return os.MkdirAll(r.out, 0o755)
	case err != nil:
		return err
	}
	if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "build" && e.IsDir() }) {
		return fmt.Errorf("%s is not empty and has no build directory of an earlier run: remove it, or name another one with --out", r.out)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(r.out, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// progress writes one line about what is being done. It is safe for concurrent use.
func (r *release) progress(format string, args ...any) {
	r.logging.Lock()
	defer r.logging.Unlock()
	fmt.Fprintf(r.log, "dist: "+format+"\n", args...)
}

// path returns the name of a file below the output directory.
func (r *release) path(elem ...string) string {
	return filepath.Join(append([]string{r.out}, elem...)...)
}

// base returns the name of what is published for a target, without an extension.
func (r *release) base(t target) string {
	return "proxyd_" + strings.TrimPrefix(r.version, "v") + "_" + t.dir()
}

// checksums writes checksums.txt, for sha256sum --check: the files of the output
// directory, in order of their names.
func (r *release) checksums(context.Context) error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, e := range entries {
		if e.IsDir() || e.Name() == "checksums.txt" {
			continue
		}
		text, err := os.ReadFile(r.path(e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(text), e.Name())
	}
	return write(r.path("checksums.txt"), []byte(b.String()))
}
