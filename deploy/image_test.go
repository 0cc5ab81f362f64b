//go:build image

package deploy

import (
	"crypto/x509"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/testkit"
)

// An image is what deploy/check.sh has built of Dockerfile.release: its settings,
// and its files below root.
type image struct {
	root string

	User            string
	Entrypoint, Cmd []string
	Labels          map[string]string
	Healthcheck     struct{ Test []string }
}

const rootsFile = "etc/ssl/certs/ca-certificates.crt"

func readImage(t *testing.T) image {
	t.Helper()
	dir := os.Getenv("IMAGE_DIR")
	text, err := os.ReadFile(filepath.Join(dir, "inspect.json"))
	if err != nil {
		t.Fatalf("%v; run deploy/check.sh", err)
	}
	var inspected struct {
		Docker struct {
			Config image `json:"config"`
		}
	}
	if err := json.Unmarshal(text, &inspected); err != nil {
		t.Fatal(err)
	}
	im := inspected.Docker.Config
	im.root = filepath.Join(dir, "root")
	return im
}

// A box is a container of an image, as far as chroot makes one: the image's user,
// a read-only root, /proc, and what is mounted below it. Its network is that of the
// test, which deploy/check.sh has put into namespaces of its own.
type box struct {
	image
	dir string
}

// newBox mounts the image read-only, and directories at paths in it.
func newBox(t *testing.T, im image, mounts map[string]string) *box {
	t.Helper()
	b := &box{image: im, dir: t.TempDir()}
	copied := filepath.Join(t.TempDir(), "root") // with the points that a runtime adds to mount at
	if err := os.CopyFS(copied, os.DirFS(im.root)); err != nil {
		t.Fatal(err)
	}
	for _, at := range append(slices.Collect(maps.Keys(mounts)), "/proc") {
		if err := os.MkdirAll(filepath.Join(copied, at), 0o755); err != nil { //nolint:gosec // readable for the image's user
			t.Fatal(err)
		}
	}
	b.bind(t, copied, "/")
	for at, from := range mounts {
		b.bind(t, from, at)
	}
	b.mount(t, "proc", "/proc", "proc", 0)
	return b
}

func (b *box) bind(t *testing.T, from, at string) {
	t.Helper()
	b.mount(t, from, at, "", syscall.MS_BIND)
	b.remount(t, at, syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY)
}

func (b *box) mount(t *testing.T, from, at, kind string, flags uintptr) {
	t.Helper()
	point := filepath.Join(b.dir, at)
	if err := syscall.Mount(from, point, kind, flags, ""); err != nil {
		t.Fatalf("%s: %v", at, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	})
}

func (b *box) remount(t *testing.T, at string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("", filepath.Join(b.dir, at), "", flags, ""); err != nil {
		t.Fatalf("%s: %v", at, err)
	}
}

// command is a command in the box, as the image's user.
func (b *box) command(t *testing.T, line ...string) *exec.Cmd {
	t.Helper()
	uid, gid, _ := strings.Cut(b.User, ":")
	u, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	g, err := strconv.ParseUint(gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(line[0], line[1:]...) //nolint:gosec // of the image
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: b.dir, Credential: &syscall.Credential{Uid: uint32(u), Gid: uint32(g)}}
	return cmd
}

// start starts what the image starts, with these arguments in place of its own, and
// waits until its health check is content. The program is stopped with the test.
func (b *box) start(t *testing.T, environ []string, args ...string) (stop func()) {
	t.Helper()
	if len(args) == 0 {
		args = b.Cmd
	}
	var out testkit.Output
	cmd := b.command(t, append(slices.Clone(b.Entrypoint), args...)...)
	cmd.Env = append(cmd.Env, environ...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("after SIGTERM: %v\n%s", err, out.String())
		}
	}
	t.Cleanup(stop)
	testkit.Eventually(t, patience, "the health check is content", func() bool { return b.healthy(t) == nil })
	return stop
}

// healthy runs the image's health check.
func (b *box) healthy(t *testing.T) error {
	t.Helper()
	if len(b.Healthcheck.Test) < 2 || b.Healthcheck.Test[0] != "CMD" {
		t.Fatalf("health check: %q", b.Healthcheck.Test)
	}
	return b.command(t, b.Healthcheck.Test[1:]...).Run()
}

// directory returns a directory of files that every user may read.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // as said
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // as said
		t.Fatal(err)
	}
	return dir
}

func TestImageHasTheProgramAndRoots(t *testing.T) {
	im := readImage(t)
	var found []string
	err := filepath.WalkDir(im.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			path, err = filepath.Rel(im.root, path)
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{rootsFile, "usr/bin/proxyd"}, found); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	text := read(t, filepath.Join(im.root, rootsFile))
	if n := strings.Count(text, "BEGIN CERTIFICATE"); n < 50 || !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		t.Errorf("%s has %d certificates", rootsFile, n)
	}
	out, err := newBox(t, im, nil).command(t, "/usr/bin/proxyd", "version").CombinedOutput()
	if version := im.Labels["org.opencontainers.image.version"]; err != nil || version == "" || !strings.Contains(string(out), version) {
		t.Errorf("label %q, proxyd version: %v %s", version, err, out)
	}
	if len(im.Labels["org.opencontainers.image.revision"]) < 40 {
		t.Errorf("labels: %v", im.Labels)
	}
}

// The image runs without a writable file, as its user, without a configuration.
func TestImageRuns(t *testing.T) {
	b := newBox(t, readImage(t), nil)
	if err := os.WriteFile(filepath.Join(b.dir, "x"), nil, 0o600); err == nil {
		t.Fatal("the root is not read-only")
	}
	if b.healthy(t) == nil {
		t.Fatal("healthy before it runs")
	}
	stop := b.start(t, nil)
	echo := testkit.NewTCP(t, testkit.Echo)
	if _, r := testkit.Open(t, "127.0.0.1:8877", testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr}); r.Status != 403 {
		t.Errorf("a private address, direct: %v", r) // the built-in defaults
	}
	stop()
	if b.healthy(t) == nil {
		t.Error("healthy after it has stopped")
	}
}

// The certificate of an https upstream is verified against the image's roots.
func TestImageVerifiesUpstreams(t *testing.T) {
	ca, echo := testkit.NewCA(t), testkit.NewTCP(t, testkit.Echo)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "https", TLS: ca.Server(t), Hosts: map[string]string{"*": echo.Addr}})
	conf := directory(t, map[string]string{"proxyd.yaml": "default: up\npools: {up: {proxies: [\"" + up.URL() + "\"]}}\n"})
	for _, trusted := range []bool{false, true} {
		t.Run("trusted "+strconv.FormatBool(trusted), func(t *testing.T) {
			im := readImage(t)
			if trusted {
				im.root = withRoot(t, im.root, ca.File)
			}
			b := newBox(t, im, map[string]string{"/etc/proxyd": conf})
			b.start(t, nil)
			c, r := testkit.Open(t, "127.0.0.1:8877", testkit.Ask{Protocol: testkit.CONNECT11, Target: "exchange.example:443"})
			defer c.Close()
			if !trusted && !strings.Contains(r.Reason, "upstream_tls") || trusted && !r.OK {
				t.Error(r)
			}
		})
	}
}

// withRoot returns a copy of the image's files with one more root.
func withRoot(t *testing.T, root, file string) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "root")
	if err := os.CopyFS(copied, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(copied, rootsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\n" + read(t, file)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return copied
}
