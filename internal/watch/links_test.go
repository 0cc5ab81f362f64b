package watch

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSavedBehindLinks(t *testing.T) {
	t.Parallel()
	testSaved(t, []saved{
		{name: "written through a hard link elsewhere", setup: func(t *testing.T, dir string) {
			in("elsewhere", "old")(t, filepath.Dir(dir))
			must(t, os.Link(filepath.Join(filepath.Dir(dir), "elsewhere"), filepath.Join(dir, "proxyd.yaml")))
		}, steps: []step{{in("../elsewhere", "new"), "new"}, {renamedOver("newer"), "newer"}, {in("proxyd.yaml", "newest"), "newest"}}},
		{name: "a Kubernetes ConfigMap", setup: configMap, steps: []step{{configMapSwap("1", "2"), "2"}, {configMapSwap("2", "3"), "3"}, {configMapSwap("3", "4"), "4"}}},
		{name: "the target in another directory, in place", setup: linked, steps: []step{{in("../far/real.yaml", "new"), "new"}, {in("../far/real.yaml", "newer"), "newer"}}},
		{name: "the target in another directory, renamed over", setup: linked, steps: []step{{func(t *testing.T, dir string) {
			in("../far/tmp", "new")(t, dir)
			must(t, os.Rename(filepath.Join(dir, "../far/tmp"), filepath.Join(dir, "../far/real.yaml")))
		}, "new"}, {in("../far/real.yaml", "newer"), "newer"}}},
		{name: "the target's directory removed and made again", setup: linked, steps: []step{
			{func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "../far"))) }, "missing"},
			{func(t *testing.T, dir string) {
				must(t, os.Mkdir(filepath.Join(dir, "../far"), 0o700))
				in("../far/real.yaml", "new")(t, dir)
			}, "new"},
			{in("../far/real.yaml", "newer"), "newer"},
		}},
		{name: "the link points elsewhere", setup: linked, steps: []step{
			{func(t *testing.T, dir string) {
				must(t, os.Mkdir(filepath.Join(dir, "../further"), 0o700))
				in("../further/real.yaml", "new")(t, dir)
				swapLink(t, "../further/real.yaml", filepath.Join(dir, "proxyd.yaml"))
			}, "new"},
			{in("../further/real.yaml", "newer"), "newer"},
		}},
		{name: "a chain of links", setup: func(t *testing.T, dir string) {
			linked(t, dir)
			must(t, os.Rename(filepath.Join(dir, "proxyd.yaml"), filepath.Join(dir, "second")))
			must(t, os.Symlink(filepath.Join(dir, "second"), filepath.Join(dir, "proxyd.yaml")))
		}, steps: []step{
			{in("../far/real.yaml", "new"), "new"},
			{func(t *testing.T, dir string) {
				in("../far/other.yaml", "newer")(t, dir)
				swapLink(t, "../far/other.yaml", filepath.Join(dir, "second"))
			}, "newer"},
		}},
		{name: "its directory is a link, as of releases", setup: func(t *testing.T, dir string) {
			must(t, os.Remove(dir))
			must(t, os.Mkdir(dir+"-1", 0o700))
			in("proxyd.yaml", "old")(t, dir+"-1")
			must(t, os.Symlink("conf-1", dir))
		}, steps: []step{
			{func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"-2", 0o700))
				in("proxyd.yaml", "new")(t, dir+"-2")
				swapLink(t, "conf-2", dir)
			}, "new"},
			{in("proxyd.yaml", "newer"), "newer"},
		}},
		{name: "a link to itself, then a file", setup: func(t *testing.T, dir string) {
			must(t, os.Symlink("proxyd.yaml", filepath.Join(dir, "proxyd.yaml")))
		}, steps: []step{{renamedOver("new"), "new"}}},
	})
}

// configMap is how the kubelet lays out a volume.
func configMap(t *testing.T, dir string) {
	must(t, os.Mkdir(filepath.Join(dir, "..2026_1"), 0o700))
	in("..2026_1/proxyd.yaml", "1")(t, dir)
	must(t, os.Symlink("..2026_1", filepath.Join(dir, "..data")))
	must(t, os.Symlink("..data/proxyd.yaml", filepath.Join(dir, "proxyd.yaml")))
}

// configMapSwap is how the kubelet updates one.
func configMapSwap(from, to string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		must(t, os.Mkdir(filepath.Join(dir, "..2026_"+to), 0o700))
		in("..2026_"+to+"/proxyd.yaml", to)(t, dir)
		must(t, os.Symlink("..2026_"+to, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		must(t, os.RemoveAll(filepath.Join(dir, "..2026_"+from)))
	}
}

// linked has dir/proxyd.yaml lead to ../far/real.yaml.
func linked(t *testing.T, dir string) {
	must(t, os.Mkdir(filepath.Join(dir, "../far"), 0o700))
	in("../far/real.yaml", "old")(t, dir)
	must(t, os.Symlink("../far/real.yaml", filepath.Join(dir, "proxyd.yaml")))
}

func swapLink(t *testing.T, target, link string) {
	must(t, os.Symlink(target, link+".tmp"))
	must(t, os.Rename(link+".tmp", link))
}
