package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testVersion = "v1.2.3"
	testEpoch   = 1700000000
)

// built returns the output directory of a release for two targets, made once from a
// copy of the checkout.
func built(t *testing.T) string {
	t.Helper()
	dir, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// scratch is removed by TestMain.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "dist")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		scratch = dir
		os.Setenv("SOURCE_DATE_EPOCH", "1700000000")
		return m.Run()
	}())
}

var buildOnce = sync.OnceValues(func() (string, error) {
	return buildIn(filepath.Join(scratch, "one"), 0o600)
})

// buildIn copies the checkout to dir, with these rights for its files beside those to
// execute, and builds the release there.
func buildIn(dir string, rights fs.FileMode) (string, error) {
	if err := copyCheckout(dir, rights); err != nil {
		return "", err
	}
	var log bytes.Buffer
	targets := runtime.GOOS + "/" + runtime.GOARCH + ",windows/arm64"
	err := run(context.Background(), []string{"--root", dir, "--version", testVersion, "--targets", targets}, &log)
	return filepath.Join(dir, "dist"), err
}

// copyCheckout copies what git tracks or would add, and makes a repository of it.
func copyCheckout(dir string, rights fs.FileMode) error {
	list, err := output(exec.Command("git", "-C", "../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard"))
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		from, to := filepath.Join("../..", name), filepath.Join(dir, name)
		st, err := os.Stat(from)
		if os.IsNotExist(err) {
			continue // removed, but not yet from the index
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, text, rights|st.Mode()&0o100); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "--all"}} {
		if _, err := output(exec.Command("git", append([]string{"-C", dir}, args...)...)); err != nil {
			return err
		}
	}
	return nil
}

// files returns all files below dir by name.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		all[strings.TrimPrefix(name, dir+"/")] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Two directories with other paths, modes and times give the same bytes.
func TestReleaseIsTheSameInTwoDirectories(t *testing.T) {
	one := files(t, built(t))
	dir, err := buildIn(filepath.Join(scratch, "another", "longer", "path"), 0o664)
	if err != nil {
		t.Fatal(err)
	}
	two := files(t, dir)
	if len(one) != len(two) || len(one) < 50 {
		t.Errorf("%d and %d files", len(one), len(two))
	}
	for name := range one {
		if !bytes.Equal(one[name], two[name]) {
			t.Errorf("%s differs", name)
		}
	}
}

// What an earlier run left is replaced; a directory of something else is not touched.
func TestOutputDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := release{out: dir}
	if err := r.clean(nil); err == nil {
		t.Error("a directory with other files was taken")
	}
	if err := os.Mkdir(filepath.Join(dir, "build"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.clean(nil); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWrongArguments(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--targets linux", "OS/ARCH"},
		{"--targets linux/amd64/v1", "OS/ARCH"},
		{"--steps programs,pack", `"pack" is none of programs, texts`},
		{"now", "no argument"},
	} {
		if _, _, err := parse(t.Context(), strings.Fields(c.args), io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}

// packed is one file of an archive.
type packed struct {
	mode fs.FileMode
	size int64
}

// wanted are files that an archive must have, beside the program.
var wanted = []string{
	"LICENSE", "NOTICE", "LICENSES.txt", "README.md", "CHANGELOG.md", "docs/configuration.md", "docs/img/overview-1600-dark.png",
	"configs/proxyd.full.yaml", "deploy/prometheus/alerts.yaml", "deploy/grafana/proxyd.json", "completions/proxyd.bash",
	"completions/_proxyd", "completions/proxyd.fish", "completions/proxyd.ps1", "man/man1/proxyd.1", "man/man1/proxyd-drain.1", "man/man5/proxyd.yaml.5",
}

func checkPacked(t *testing.T, dir, program string, all map[string]packed) {
	t.Helper()
	for name, p := range all {
		rest, ok := strings.CutPrefix(name, dir+"/")
		mode := fs.FileMode(0o644)
		if rest == program {
			mode = 0o755
		}
		if !ok || p.mode != mode || p.size == 0 {
			t.Errorf("%s: %v, %d bytes", name, p.mode, p.size)
		}
		for _, not := range []string{".go", ".sh", ".gz", "_test.yaml"} {
			if strings.HasSuffix(name, not) {
				t.Errorf("%s shall not be in the archive", name)
			}
		}
	}
	for _, name := range append(slices.Clone(wanted), program) {
		if _, ok := all[dir+"/"+name]; !ok {
			t.Errorf("no %s in the archive", name)
		}
	}
}

func TestTarArchive(t *testing.T) {
	base := "proxyd_1.2.3_" + runtime.GOOS + "_" + runtime.GOARCH
	f, err := os.Open(filepath.Join(built(t), base+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all, last := map[string]packed{}, ""
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = packed{h.FileInfo().Mode(), h.Size}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != testEpoch || h.Name <= last {
			t.Errorf("%s after %s: uid %d, gid %d, %v", h.Name, last, h.Uid, h.Gid, h.ModTime)
		}
		last = h.Name
	}
	checkPacked(t, base, "proxyd", all)
}

func TestZipArchive(t *testing.T) {
	base := "proxyd_1.2.3_windows_arm64"
	r, err := zip.OpenReader(filepath.Join(built(t), base+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all := map[string]packed{}
	for _, f := range r.File {
		all[f.Name] = packed{f.Mode(), int64(f.UncompressedSize64)}
		if !f.Modified.Equal(time.Unix(testEpoch, 0)) {
			t.Errorf("%s: %v", f.Name, f.Modified)
		}
	}
	checkPacked(t, base, "proxyd.exe", all)
}

// The program of the archive is that of make build, and knows its version.
func TestProgramOfRelease(t *testing.T) {
	program := filepath.Join(built(t), "build", runtime.GOOS+"_"+runtime.GOARCH, "proxyd")
	out, err := output(exec.Command(program, "version"))
	if err != nil || !strings.HasPrefix(string(out), "proxyd "+testVersion+"\n") {
		t.Errorf("%s, %v", out, err)
	}
	made := filepath.Dir(built(t))
	if _, err := output(exec.Command("make", "-C", made, "build", "VERSION="+testVersion)); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(program)
	b, err := os.ReadFile(filepath.Join(made, "bin", "proxyd"))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("make build gives other bytes: %d and %d, %v", len(a), len(b), err)
	}
}

// sha256sum, which users have, accepts checksums.txt; it names every file that is
// published.
func TestChecksumsOfRelease(t *testing.T) {
	cmd := exec.Command("sha256sum", "--check", "--strict", "checksums.txt")
	cmd.Dir = built(t)
	out, err := output(cmd)
	if err != nil {
		t.Fatal(err)
	}
	published, err := filepath.Glob(filepath.Join(built(t), "proxyd*"))
	if err != nil || len(published) < 4 {
		t.Fatal(published, err)
	}
	for _, file := range published {
		if !strings.Contains(string(out), filepath.Base(file)+": OK\n") {
			t.Errorf("no %s in checksums.txt", filepath.Base(file))
		}
	}
}

// The SBOM names the modules that go version -m finds in the program, and Go itself.
func TestSBOMOfRelease(t *testing.T) {
	dir := built(t)
	for base, program := range map[string]string{
		"proxyd_1.2.3_" + runtime.GOOS + "_" + runtime.GOARCH: runtime.GOOS + "_" + runtime.GOARCH + "/proxyd",
		"proxyd_1.2.3_windows_arm64":                          "windows_arm64/proxyd.exe",
	} {
		text, err := os.ReadFile(filepath.Join(dir, base+".cdx.json"))
		if err != nil {
			t.Fatal(err)
		}
		var bom struct {
			SerialNumber string
			Metadata     struct {
				Timestamp string
				Component struct{ Name, Version string }
			}
			Components []struct{ Name, Version string }
		}
		if err := json.Unmarshal(text, &bom); err != nil {
			t.Fatal(err)
		}
		if bom.SerialNumber+bom.Metadata.Timestamp != "" || bom.Metadata.Component.Version != testVersion {
			t.Errorf("%s: %+v", base, bom.Metadata)
		}
		var got, want []string
		for _, c := range bom.Components {
			got = append(got, c.Name+" "+c.Version)
		}
		modules, err := output(exec.Command("go", "version", "-m", filepath.Join(dir, "build", program)))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(modules), "\n") {
			if f := strings.Fields(line); len(f) > 2 && f[0] == "dep" {
				want = append(want, f[1]+" "+f[2])
			}
		}
		want = append(want, "std "+runtime.Version())
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", base, got, want)
		}
	}
}
