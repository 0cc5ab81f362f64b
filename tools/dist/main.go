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
	"strings"
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
