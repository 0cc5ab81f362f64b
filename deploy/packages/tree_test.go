//go:build packages && linux

package packages

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A tree is what the files of a machine look like: the path of each to its kind, mode,
// owner and content.
type tree map[string]string

// diary is what package managers and systemd write about themselves.
var diary = regexp.MustCompile(`^/(` + strings.Join([]string{
	`var/log/(apt|journal)(/.*)?`, `var/log/(dpkg|alternatives)\.log`, `var/cache/(apt|ldconfig|debconf)(/.*)?`,
	`var/lib/dpkg/(status(-old)?|available(-old)?|lock(-frontend)?|triggers/.*|diversions.*)`,
	`var/lib/apt/(extended_states|lists(/.*)?|daily_lock)`, `(var/lib/rpm|root/\.rpmdb)(/.*)?`,
	`etc/(passwd|group|shadow|gshadow|subuid|subgid)-`, `etc/\.pwd\.lock`, `etc/\.updated`, `var/\.updated`, `etc/machine-id`,
	`var/lib/systemd/(random-seed|catalog/.*|timers/.*|timers|timesync(/.*)?)`, `var/log/[wb]tmp`, `var/log/lastlog`, `var/tmp/systemd-private.*`, `tmp/systemd-private.*`,
}, "|") + `)$`)

// tree returns what is there now, but for the diary.
func (m *machine) tree(t *testing.T) tree {
	t.Helper()
	all := tree{}
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, m.root)
		if name == "" || diary.MatchString(name) {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		what := fmt.Sprintf("%v %d:%d", info.Mode(), owner.Uid, owner.Gid)
		switch {
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			all[name] = what + " " + link
			return err
		case d.Type().IsRegular():
			text, err := os.ReadFile(path)
			all[name] = fmt.Sprintf("%s %x", what, sha256.Sum256(text))
			return err
		}
		all[name] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// since returns what is not as it was: "+" new, "-" gone, "~" changed.
func (now tree) since(before tree) (list []string) {
	for name, what := range now {
		if old, ok := before[name]; !ok {
			list = append(list, "+ "+name)
		} else if old != what {
			list = append(list, "~ "+name+": "+old+" → "+what)
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			list = append(list, "- "+name)
		}
	}
	slices.Sort(list)
	return list
}

// left fails the test if other files are left than those named.
func left(t *testing.T, what string, now, before tree, names ...string) {
	t.Helper()
	want := map[string]bool{}
	for _, name := range names {
		want["+ "+name] = true
	}
	for _, change := range now.since(before) {
		if !want[change] {
			t.Errorf("after %s: %s", what, change)
		}
		delete(want, change)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		t.Errorf("after %s: missing: %s", what, strings.TrimPrefix(name, "+ "))
	}
}
