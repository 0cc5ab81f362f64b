package deploy

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
	"proxyd/internal/testkit"
)

// packaged is one entry of contents in nfpm.yaml.
type packaged struct {
	Src, Dst, Type, Packager string
	Expand                   bool
	Info                     struct{ Mode uint32 } `yaml:"file_info"`
}

func packageContents(t *testing.T) []packaged {
	t.Helper()
	var spec struct{ Contents []packaged }
	if err := yaml.Unmarshal([]byte(read(t, "packages/nfpm.yaml")), &spec); err != nil {
		t.Fatal(err)
	}
	return spec.Contents
}

// Each file of the packages is in the checkout, or is built, and has a mode of its
// own: that of a checkout depends on who made it.
func TestPackageContents(t *testing.T) {
	modes := map[string]uint32{"/usr/bin/proxyd": 0o755, "/etc/proxyd/env": 0o600}
	var kept []string
	installed := map[string]bool{}
	for _, c := range packageContents(t) {
		installed[c.Dst] = true
	}
	for _, c := range packageContents(t) {
		if c.Expand != strings.Contains(c.Src, "$") {
			t.Errorf("%s: expand is %v", c.Src, c.Expand)
		}
		if c.Type == "config|noreplace" {
			kept = append(kept, c.Dst)
		}
		if dir := filepath.Dir(c.Dst); strings.Contains(dir, "/share/") && strings.Contains(dir, "/proxyd") && !installed[dir] {
			t.Errorf("%s: rpm would leave %s behind, which is not an entry", c.Dst, dir)
		}
		want, special := modes[c.Dst]
		switch {
		case c.Type == "symlink":
			if target := filepath.Join(filepath.Dir(c.Dst), c.Src); !installed[target] {
				t.Errorf("%s leads to %s, which is not installed", c.Dst, target)
			}
			continue
		case c.Type == "dir":
			want = 0o755
		case !special:
			want = 0o644
		}
		if c.Info.Mode != want {
			t.Errorf("%s: mode %o, want %o", c.Dst, c.Info.Mode, want)
		}
		if c.Expand || c.Type == "dir" {
			continue
		}
		if files, err := filepath.Glob(filepath.Join("..", c.Src)); err != nil || len(files) == 0 {
			t.Errorf("%s: no such file", c.Src)
		}
	}
	slices.Sort(kept)
	if diff := cmp.Diff([]string{"/etc/proxyd/env", "/etc/proxyd/proxyd.yaml"}, kept); diff != "" {
		t.Errorf("kept on upgrade (-want +got)\n%s", diff)
	}
}

// What is for compose and Kubernetes is in the packages, all of it.
func TestPackagesHaveManifests(t *testing.T) {
	for _, dir := range []string{"compose", "kubernetes"} {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if !slices.ContainsFunc(packageContents(t), func(c packaged) bool {
				ok, err := filepath.Match(c.Src, filepath.Join("deploy", name))
				return ok && err == nil
			}) {
				t.Errorf("no entry has deploy/%s", name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The configuration of the packages has no errors and no warnings, and neither has
// the entry that it shows in comments, once TOKYO_PASSWORD is set.
func TestPackageConfiguration(t *testing.T) {
	text := read(t, "packages/proxyd.yaml")
	shown := strings.NewReplacer("# exchanges:", "exchanges:", "#   bitget:", "  bitget:").Replace(text)
	for name, text := range map[string]string{"as it is": text, "with the entry": shown} {
		path := filepath.Join(t.TempDir(), "proxyd.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path, []string{"TOKYO_PASSWORD=geheim"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(c.Warnings) > 0 {
			t.Errorf("%s: %v", name, c.Warnings)
		}
	}
	if text == shown {
		t.Error("shows no entry in comments")
	}
}

// The scripts find the daemon by the command line of the unit, and are valid for the
// shells that run them.
func TestPackageScripts(t *testing.T) {
	start := strings.Join(readUnit(t, "systemd/proxyd.service")["[Service]ExecStart"], "")
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		path := filepath.Join("packages", name)
		text := read(t, path)
		line := strings.ReplaceAll(text, "$config", "/etc/proxyd/proxyd.yaml")
		if strings.Contains(text, "/cmdline") && !strings.Contains(line, `"`+start+` "`) {
			t.Errorf("%s does not look for %q", name, start)
		}
		if !strings.HasPrefix(text, "#!/bin/sh\n") || !strings.Contains(text, "\nset -e\n") {
			t.Errorf("%s: must begin with #!/bin/sh, and set -e", name)
		}
		for _, shell := range []string{"sh", "dash", "bash", "busybox"} {
			t.Run(name+" by "+shell, func(t *testing.T) {
				args := []string{"-n", path}
				if shell == "busybox" {
					args = append([]string{"sh"}, args...)
				}
				program, err := exec.LookPath(shell)
				if err != nil {
					testkit.Lacks(t, shell)
				}
				if out, err := exec.Command(program, args...).CombinedOutput(); err != nil { //nolint:gosec // found above
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
