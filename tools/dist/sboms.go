package main

import (
	"context"
	"os"
	"os/exec"
)

// cyclonedx is run by `go run`: as a tool of the module it would put its modules
// into tools/go.mod.
const cyclonedx = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"

// sboms writes proxyd_VERSION_OS_ARCH.cdx.json: the modules and the standard library
// of each program, read from the program itself. It has no time and no serial number.
func (r *release) sboms(ctx context.Context) error {
	return each(ctx, r.targets, func(ctx context.Context, t target) error {
		r.progress("SBOM for %s/%s", t.os, t.arch)
		cmd := exec.CommandContext(ctx, "go", "run", cyclonedx, "bin", "-json", "-std", "-noserial", "-notimestamp",
			"-version", r.version, "-output", r.path(r.base(t)+".cdx.json"), r.path("build", t.dir(), t.program()))
		// It writes its own hash too: it is built in the same manner everywhere.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath", "GOWORK=off")
		cmd.Dir = r.out
		_, err := output(cmd)
		return err
	})
}
