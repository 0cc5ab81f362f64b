package main

import (
	"context"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// nfpm writes the packages.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.48.0"

// packages writes a .deb and a .rpm for each Linux target, from deploy/packages. It uses
// what "programs" and "texts" have written. The names are those that dpkg and rpm give.
func (r *release) packages(ctx context.Context) error {
	return each(ctx, r.targets, func(ctx context.Context, t target) error {
		if t.os != "linux" {
			return nil
		}
		r.progress("packages for %s/%s", t.os, t.arch)
		environ := []string{"ARCH=" + t.arch, "BUILD=" + r.path("build"),
			"VERSION=" + packageVersion(r.version, r.time), "SOURCE_DATE_EPOCH=" + strconv.FormatInt(r.time.Unix(), 10)}
		for _, kind := range []string{"deb", "rpm"} {
			if err := r.goRun(ctx, nfpm, environ, "package", "-f", "deploy/packages/nfpm.yaml", "-p", kind, "-t", r.out+string(os.PathSeparator)); err != nil {
				return err
			}
		}
		return nil
	})
}

// described is what git describe prints on a tag and after it: v1.2.3,
// v1.2.3-rc.1, v1.2.3-4-gabcdef0, each perhaps with -dirty.
var described = regexp.MustCompile(`^v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.]+?))??(?:-(\d+)-g([0-9a-f]+))?(-dirty)?$`)

// packageVersion returns the version as dpkg and rpm compare it. A candidate comes
// before its release (1.2.3~rc.1), a commit after its tag (1.2.3+4.gabcdef0). Without
// a tag the time orders the commits, all before any release (0~20261130101756.abcdef0).
func packageVersion(version string, at time.Time) string {
	m := described.FindStringSubmatch(version)
	if m == nil || !strings.Contains(m[1], ".") {
		clean := regexp.MustCompile(`[^0-9A-Za-z.]+`).ReplaceAllString(version, ".")
		return "0~" + at.UTC().Format("20060102150405") + "." + clean
	}
	v := m[1]
	if m[2] != "" {
		v += "~" + m[2]
	}
	if m[3] != "" {
		v += "+" + m[3] + ".g" + m[4]
	}
	return v + strings.Replace(m[5], "-", "+", 1)
}
