package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// tracked are the files of the checkout that an archive has, as git pathspecs. The
// documents name files of deploy and configs. What tests them or makes packages stays
// out.
var tracked = []string{
	"LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "configs", "deploy",
	":(exclude)*.go", ":(exclude)*_test.*", ":(exclude)*.sh", ":(exclude)*/testdata/*", ":(exclude)deploy/packages",
}

// entry is one file of an archive.
type entry struct {
	name string // with slashes, below the archive's one directory
	text []byte
	mode fs.FileMode
}

// commonFiles writes build/files, what every archive has beside the program. Of the
// modes only the right to execute remains: the rest is the umask of whoever checked
// the files out.
func (r *release) commonFiles(ctx context.Context) error {
	list, err := r.git(ctx, append([]string{"ls-files", "-z", "--"}, tracked...)...)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(r.path("build", "files")); err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(list, "\x00"), "\x00") {
		if err := r.common(filepath.Join(r.root, name), name); err != nil {
			return err
		}
	}
	for _, glob := range []struct{ files, dir string }{
		{"LICENSES.txt", ""}, {"completions/*", "completions"}, {"man/*.1", "man/man1"}, {"man/*.5", "man/man5"},
	} {
		files, err := filepath.Glob(r.path("build", glob.files))
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := r.common(file, filepath.Join(glob.dir, filepath.Base(file))); err != nil {
				return err
			}
		}
	}
	return nil
}

// common copies a file to build/files.
func (r *release) common(file, name string) error {
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	to := r.path("build", "files", name)
	if err := write(to, text); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if st.Mode()&0o100 != 0 {
		mode = 0o755
	}
	return os.Chmod(to, mode)
}

// archives writes proxyd_VERSION_OS_ARCH.tar.gz, or .zip for windows, of build/files
// and the program.
func (r *release) archives(ctx context.Context) error {
	common, err := readEntries(r.path("build", "files"))
	if err != nil {
		return err
	}
	return each(ctx, r.targets, func(_ context.Context, t target) error {
		r.progress("archive for %s/%s", t.os, t.arch)
		program, err := os.ReadFile(r.path("build", t.dir(), t.program()))
		if err != nil {
			return err
		}
		entries := append(slices.Clone(common), entry{t.program(), program, 0o755})
		slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
		pack, ext := r.tarGz, ".tar.gz"
		if t.os == "windows" {
			pack, ext = r.zip, ".zip"
		}
		text, err := pack(r.base(t), entries)
		if err != nil {
			return err
		}
		return write(r.path(r.base(t)+ext), text)
	})
}

// readEntries returns the files below dir.
func readEntries(dir string) (entries []entry, _ error) {
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(file)
		name := filepath.ToSlash(strings.TrimPrefix(file, dir+string(filepath.Separator)))
		entries = append(entries, entry{name, text, st.Mode().Perm()})
		return err
	})
	return entries, err
}

// tarGz returns an archive of the entries below one directory, owned by root.
func (r *release) tarGz(dir string, entries []entry) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // its best level takes three times as long, for 1 % less
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := tar.Header{Name: path.Join(dir, e.name), Mode: int64(e.mode), Size: int64(len(e.text)), ModTime: r.time, Uname: "root", Gname: "root"}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	err := z.Close()
	return b.Bytes(), err
}

// zip returns an archive of the entries below one directory.
func (r *release) zip(dir string, entries []entry) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := zip.FileHeader{Name: path.Join(dir, e.name), Method: zip.Deflate, Modified: r.time}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(&h)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(e.text); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
