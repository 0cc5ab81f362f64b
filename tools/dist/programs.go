package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// allTargets are the systems of a release.
const allTargets = "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64"

// target is a system to build for.
type target struct{ os, arch string }

func (t target) dir() string { return t.os + "_" + t.arch }

// program returns the file name of the program.
func (t target) program() string {
	if t.os == "windows" {
		return "proxyd.exe"
	}
	return "proxyd"
}

// parseTargets reads OS/ARCH,…; go build refuses what it does not know.
func parseTargets(list string) (targets []target, _ error) {
	for one := range strings.SplitSeq(list, ",") {
		goos, arch, ok := strings.Cut(one, "/")
		if !ok || goos == "" || arch == "" || strings.Contains(arch, "/") {
			return nil, fmt.Errorf("--targets: %q is not OS/ARCH, such as linux/amd64", one)
		}
		targets = append(targets, target{goos, arch})
	}
	return targets, nil
}

// each calls f for all targets, for as many at the same time as there are processors.
// It returns the first error.
func each(ctx context.Context, targets []target, f func(context.Context, target) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, t := range targets {
		g.Go(func() error { return f(ctx, t) }) // Wait waits for all
	}
	return g.Wait()
}

// programs builds build/OS_ARCH/proxyd for each target.
func (r *release) programs(ctx context.Context) error {
	return each(ctx, r.targets, func(ctx context.Context, t target) error {
		r.progress("building for %s/%s", t.os, t.arch)
		return r.build(ctx, t, r.path("build", t.dir(), t.program()))
	})
}

// buildFlags are those of `make build` and of .goreleaser.yaml, so that all give the
// same bytes.
func buildFlags(version string) []string {
	return []string{"-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=" + version}
}

// build builds one program.
func (r *release) build(ctx context.Context, t target, file string) error {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build"}, buildFlags(r.version), []string{"-o", file, "./cmd/proxyd"})...)
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch)
	_, err := output(cmd)
	return err
}

// native returns a program that runs here: that of a target, else one that is built
// for it.
func (r *release) native(ctx context.Context) (string, error) {
	here := target{runtime.GOOS, runtime.GOARCH}
	file := r.path("build", here.dir(), here.program())
	if _, err := os.Stat(file); err == nil && slices.Contains(r.targets, here) {
		return file, nil
	}
	file = r.path("build", "native", here.program())
	return file, r.build(ctx, here, file)
}

// cyclonedx writes the SBOMs.
const cyclonedx = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"

// sboms writes proxyd_VERSION_OS_ARCH.cdx.json: the modules and the standard library
// of each program, read from the program itself. It has no time and no serial number.
func (r *release) sboms(ctx context.Context) error {
	return each(ctx, r.targets, func(ctx context.Context, t target) error {
		r.progress("SBOM for %s/%s", t.os, t.arch)
		return r.goRun(ctx, cyclonedx, nil, "bin", "-json", "-std", "-noserial", "-notimestamp",
			"-version", r.version, "-output", r.path(r.base(t)+".cdx.json"), r.path("build", t.dir(), t.program()))
	})
}
