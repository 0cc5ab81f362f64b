package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestPackageVersion(t *testing.T) {
	at := time.Date(2026, 11, 30, 10, 17, 56, 0, time.UTC)
	for version, want := range map[string]string{
		"v1.2.3":                          "1.2.3",
		"1.2.3":                           "1.2.3",
		"v1.2.3-dirty":                    "1.2.3+dirty",
		"v1.2.3-rc.1":                     "1.2.3~rc.1",
		"v1.2.3-4-gabcdef0":               "1.2.3+4.gabcdef0",
		"v1.2.3-rc.1-4-gabcdef0-dirty":    "1.2.3~rc.1+4.gabcdef0+dirty",
		"abcdef0":                         "0~20261130101756.abcdef0",
		"1234567":                         "0~20261130101756.1234567",
		"abcdef0-dirty":                   "0~20261130101756.abcdef0.dirty",
		"dev":                             "0~20261130101756.dev",
		"a branch/of mine":                "0~20261130101756.a.branch.of.mine",
		"v1.2.3-feature_x-4-gabcdef0-etc": "0~20261130101756.v1.2.3.feature.x.4.gabcdef0.etc",
	} {
		if got := packageVersion(version, at); got != want {
			t.Errorf("%s: got %s, want %s", version, got, want)
		}
	}
}

// dpkg orders versions as they came about.
func TestPackageVersionOrder(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Skip("no dpkg here")
	}
	at := time.Date(2026, 11, 30, 10, 17, 56, 0, time.UTC)
	versions := []string{packageVersion("abcdef0", at), packageVersion("0abcdef", at.Add(time.Second))}
	for _, v := range []string{"v0.9.0", "v1.0.0-rc.1", "v1.0.0-rc.1-2-gabcdef0", "v1.0.0-rc.2", "v1.0.0", "v1.0.0-3-gabcdef0", "v1.0.0-12-g0123456", "v1.0.1"} {
		versions = append(versions, packageVersion(v, at))
	}
	for i, v := range versions[1:] {
		if err := exec.Command(dpkg, "--compare-versions", versions[i], "lt", v).Run(); err != nil { //nolint:gosec // found above
			t.Errorf("%s is not before %s: %v", versions[i], v, err)
		}
	}
}

// debOfRelease returns a .deb and the program that reads it.
func debOfRelease(t *testing.T) (deb, dpkg string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("packages are made of Linux targets")
	}
	dpkg, err := exec.LookPath("dpkg-deb")
	if err != nil {
		t.Skip("no dpkg-deb here")
	}
	return filepath.Join(built(t), "proxyd_1.2.3_"+runtime.GOARCH+".deb"), dpkg
}

// A document in a package links to what the package installs, or to the source.
func TestLinksOfPackagedDocuments(t *testing.T) {
	deb, dpkg := debOfRelease(t)
	root := t.TempDir()
	if _, err := output(exec.Command(dpkg, "--extract", deb, root)); err != nil { //nolint:gosec // found above
		t.Fatal(err)
	}
	checkLinks(t, filepath.Join(root, "usr", "share", "doc", "proxyd"))
}

// The packages of a release install what deploy/packages says, readable by those who
// need it, whatever the modes in the checkout.
func TestDebOfRelease(t *testing.T) {
	deb, dpkg := debOfRelease(t)
	ask := func(args ...string) string {
		cmd := exec.Command(dpkg, append(args, deb)...) //nolint:gosec // found above
		cmd.Env = append(os.Environ(), "TZ=UTC")
		out, err := output(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	list := ask("--contents")
	for _, want := range []string{
		`-rwxr-xr-x root/root .* \./usr/bin/proxyd`,
		`-rw-r--r-- root/root .* \./etc/proxyd/proxyd\.yaml`,
		`-rw------- root/root .* \./etc/proxyd/env`,
		`-rw-r--r-- root/root .* \./usr/lib/systemd/system/proxyd\.service`,
		`-rw-r--r-- root/root .* \./usr/lib/systemd/system/proxyd\.socket`,
		`-rw-r--r-- root/root .* \./usr/share/man/man1/proxyd\.1\.gz`,
		`-rw-r--r-- root/root .* \./usr/share/man/man5/proxyd\.yaml\.5\.gz`,
		`-rw-r--r-- root/root .* \./usr/share/bash-completion/completions/proxyd`,
		`-rw-r--r-- root/root .* \./usr/share/zsh/vendor-completions/_proxyd`,
		`-rw-r--r-- root/root .* \./usr/share/fish/vendor_completions\.d/proxyd\.fish`,
		`-rw-r--r-- root/root .* \./usr/share/doc/proxyd/copyright`,
		`-rw-r--r-- root/root .* \./usr/share/doc/proxyd/LICENSES\.txt`,
		`-rw-r--r-- root/root .* \./usr/share/doc/proxyd/examples/proxyd\.full\.yaml`,
		`-rw-r--r-- root/root .* \./usr/share/proxyd/prometheus/alerts\.yaml`,
	} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(list) {
			t.Errorf("no line %s in\n%s", want, list)
		}
	}
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " root/root ") || !strings.Contains(line, " 2023-11-14 22:13 ") {
			t.Errorf("not of root, or of another time than that of the commit: %s", line)
		}
	}
	control := ask("--info")
	for _, want := range []string{" Package: proxyd\n", " Version: 1.2.3\n", " Architecture: " + runtime.GOARCH + "\n", "postinst", "prerm", "postrm", "conffiles"} {
		if !strings.Contains(control, want) {
			t.Errorf("no %q in\n%s", want, control)
		}
	}
}
