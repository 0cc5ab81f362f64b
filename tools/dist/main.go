// Command dist writes what a release of proxyd consists of; make packages runs it.
//
//	go -C tools run ./dist --version v1.2.3 --out dist --targets linux/amd64
//
// The output directory, dist/ of the checkout, then holds:
//
//	proxyd_VERSION_OS_ARCH.tar.gz     an archive for each target; .zip for windows
//	proxyd_VERSION_OS_ARCH.cdx.json   what its program contains (CycloneDX 1.6)
//	proxyd_VERSION_ARCH.deb           packages for each Linux target; see [packageVersion]
//	proxyd-VERSION-1.ARCH.rpm
//	checksums.txt                     SHA-256 of each file beside it
//	build/                            what the files above are made of:
//	build/OS_ARCH/proxyd              the programs; proxyd.exe for windows
//	build/completions/                proxyd.bash, _proxyd (zsh), proxyd.fish, proxyd.ps1
//	build/man/                        proxyd.1, proxyd-check.1 …, proxyd.yaml.5; each also as .gz
//	build/LICENSES.txt                the licences of the modules in the program
//	build/files/                      what every archive has, beside the program
//
// VERSION is the version without the v before it. The same commit and the same release
// of Go give the same bytes, in any directory: files have the time of the commit, or
// $SOURCE_DATE_EPOCH. Only files that git tracks go into an archive, as they are in the
// checkout.
//
// A new kind of output is a step in [steps], before checksums.txt; it writes to the
// output directory what is published, and everything else below build/.
package main

import (
	"context"
	"errors"
	"flag"
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

func main() {
	err := run(context.Background(), os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// step is one part of the work. Its function writes below release.out.
type step struct {
	name string
	run  func(*release, context.Context) error
}

// steps are done in this order. Those after "files" use what the first three have
// written.
var steps = []step{
	{"programs", (*release).programs},
	{"texts", (*release).texts},
	{"files", (*release).commonFiles},
	{"archives", (*release).archives},
	{"sboms", (*release).sboms},
	{"packages", (*release).packages},
	{"checksums", (*release).checksums},
}

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

// run does the steps that args ask for.
func run(ctx context.Context, args []string, log io.Writer) error {
	r, only, err := parse(ctx, args, log)
	if err != nil {
		return err
	}
	if err := r.clean(only); err != nil {
		return err
	}
	begin := time.Now()
	for _, s := range steps {
		if len(only) > 0 && !slices.Contains(only, s.name) {
			continue
		}
		if err := s.run(r, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	r.progress("proxyd %s in %s (%.0f s)", r.version, r.out, time.Since(begin).Seconds())
	return nil
}

// parse returns the release that args describe, and the steps that they name.
func parse(ctx context.Context, args []string, log io.Writer) (*release, []string, error) {
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	flags.SetOutput(log)
	root := flags.String("root", "", "the checkout `DIR` (default: that of the current directory)")
	out := flags.String("out", "dist", "output `DIR`, relative to the checkout; what an earlier run left there is removed")
	version := flags.String("version", "", "the `VERSION` (default: git describe)")
	targets := flags.String("targets", allTargets, "`OS/ARCH,…` to build for")
	only := flags.String("steps", "", "do these `STEPS` only, in this order: "+strings.Join(stepNames(), ","))
	if err := flags.Parse(args); err != nil {
		return nil, nil, err
	}
	if flags.NArg() > 0 {
		return nil, nil, fmt.Errorf("no argument is expected, but there is %q", flags.Arg(0))
	}
	r := &release{log: log, version: *version}
	var err error
	if r.root, err = checkout(ctx, *root); err != nil {
		return nil, nil, err
	}
	if r.out = *out; !filepath.IsAbs(r.out) {
		r.out = filepath.Join(r.root, r.out)
	}
	if r.version == "" {
		if r.version, err = r.git(ctx, "describe", "--tags", "--always", "--dirty"); err != nil {
			return nil, nil, err
		}
	}
	if r.targets, err = parseTargets(*targets); err != nil {
		return nil, nil, err
	}
	if r.time, err = r.sourceTime(ctx); err != nil {
		return nil, nil, err
	}
	names, err := parseSteps(*only)
	return r, names, err
}

func stepNames() (names []string) {
	for _, s := range steps {
		names = append(names, s.name)
	}
	return names
}

// parseSteps returns the names in a list, nil for all.
func parseSteps(list string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(stepNames(), name) {
			return nil, fmt.Errorf("--steps: %q is none of %s", name, strings.Join(stepNames(), ", "))
		}
	}
	return names, nil
}

// checkout returns the root of the checkout that dir is in.
func checkout(ctx context.Context, dir string) (string, error) {
	r := release{root: dir}
	return r.git(ctx, "rev-parse", "--show-toplevel")
}

// git returns what one git command prints, without the line end.
func (r *release) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.root
	out, err := output(cmd)
	return strings.TrimRight(string(out), "\n"), err
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

// output returns what a command writes to standard output. Its error has what the
// command wrote to standard error.
func output(cmd *exec.Cmd) ([]byte, error) {
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out, nil
}
