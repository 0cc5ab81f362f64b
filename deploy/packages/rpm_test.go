//go:build packages && linux

package packages

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// onlyIn names what the conventions have in one of the packages alone, or elsewhere.
var onlyIn = regexp.MustCompile(`^/usr/share/(licenses/|doc/proxyd/(copyright|NOTICE|changelog)|zsh/(vendor-completions|site-functions)/)`)

// Both packages bring the same files, with the same modes, owners, contents and
// scripts, and the same of them are configuration.
func TestRPMBringsWhatDebBrings(t *testing.T) {
	deb, rpm := built(t, "v0.9.1", "deb"), built(t, "v0.9.1", "rpm")
	inDeb, inRPM := debFiles(t, deb), rpmFiles(t, rpm)
	if len(inDeb) < 50 || inDeb["/usr/bin/proxyd"] == "" {
		t.Fatalf("the .deb has only %d files", len(inDeb))
	}
	if diff := cmp.Diff(common(inDeb), common(inRPM)); diff != "" {
		t.Errorf("the files of the .deb (-) and of the .rpm (+):\n%s", diff)
	}
	for both, name := range map[string]string{"/usr/share/zsh/vendor-completions/_proxyd": "/usr/share/zsh/site-functions/_proxyd", "/usr/share/doc/proxyd/NOTICE": "/usr/share/licenses/proxyd/NOTICE"} {
		if inDeb[both] == "" || inDeb[both] != inRPM[name] {
			t.Errorf("%s is %q, and %s %q", both, inDeb[both], name, inRPM[name])
		}
	}

	info := t.TempDir()
	command(t, "dpkg-deb", "-e", deb, info)
	for script, tag := range map[string]string{"postinst": "POSTIN", "prerm": "PREUN", "postrm": "POSTUN"} {
		text, err := os.ReadFile(filepath.Join(info, script))
		if err != nil {
			t.Fatal(err)
		}
		got := command(t, "rpm", "--nodigest", "--nosignature", "-qp", "--qf", "%{"+tag+"PROG} %{"+tag+"}", rpm)
		if want := "/bin/sh " + string(text); strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%s differs: %s", script, cmp.Diff(want, got))
		}
	}
	conffiles, err := os.ReadFile(filepath.Join(info, "conffiles"))
	if err != nil {
		t.Fatal(err)
	}
	flags := command(t, "rpm", "--nodigest", "--nosignature", "-qp", "--qf", "[%{FILEFLAGS:fflags} %{FILENAMES}\n]", rpm)
	var kept []string
	for _, m := range regexp.MustCompile(`(?m)^(\w*c\w*) (\S+)$`).FindAllStringSubmatch(flags, -1) {
		if kept = append(kept, m[2]); !strings.Contains(m[1], "n") {
			t.Errorf("%s would be replaced by an upgrade: flags %s", m[2], m[1])
		}
	}
	if diff := cmp.Diff(strings.Fields(string(conffiles)), kept); diff != "" {
		t.Errorf("the configuration of the .deb (-) and of the .rpm (+):\n%s", diff)
	}
}

func common(files tree) tree {
	both := tree{}
	for name, what := range files {
		if !onlyIn.MatchString(name) {
			both[name] = what
		}
	}
	return both
}

// debFiles returns the files and links in a .deb.
func debFiles(t *testing.T, file string) tree {
	t.Helper()
	content := t.TempDir()
	command(t, "dpkg-deb", "-x", file, content)
	listed := regexp.MustCompile(`(?m)^([-l]\S+) (\S+)/(\S+) .* \.(/\S+)(?: -> (\S+))?$`)
	return contents(t, content, listed.FindAllStringSubmatch(command(t, "dpkg-deb", "-c", file), -1))
}

// rpmFiles returns the files and links in a .rpm.
func rpmFiles(t *testing.T, file string) tree {
	t.Helper()
	content := t.TempDir()
	unpack := exec.Command("sh", "-c", `rpm2cpio "$0" | cpio -idm --quiet`, file)
	unpack.Dir = content
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	listed := regexp.MustCompile(`(?m)^([-l]\S+) (\S+) (\S+) (/\S+) ?(\S*)$`)
	list := command(t, "rpm", "--nodigest", "--nosignature", "-qp", "--qf", "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES} %{FILELINKTOS}\n]", file)
	return contents(t, content, listed.FindAllStringSubmatch(list, -1))
}

// contents returns the files of a list of mode, user, group, name and link, with what
// each has.
func contents(t *testing.T, root string, list [][]string) tree {
	t.Helper()
	all := tree{}
	for _, m := range list {
		mode, user, group, name, link := m[1], m[2], m[3], m[4], m[5]
		what := fmt.Sprintf("%s %s %s %s", mode, user, group, link)
		if mode[0] == '-' {
			text, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				t.Fatal(err)
			}
			what += fmt.Sprintf(" %x", sha256.Sum256(text))
		}
		all[name] = what
	}
	return all
}
