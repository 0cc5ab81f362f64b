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
	"LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "SECURITY.md", "docs", "configs", "deploy",
	":(exclude)*.go", ":(exclude)*_test.*", ":(exclude)*.sh", ":(exclude)*/testdata/*", ":(exclude)deploy/packages",
}

// entry is one file of an archive.
type entry struct {
	name string // with slashes, below the archive's one directory
	text []byte
	mode fs.FileMode
}

// archives writes proxyd_VERSION_OS_ARCH.tar.gz, or .zip for windows.
func (r *release) archives(ctx context.Context) error {
	common, err := r.commonFiles(ctx)
	if err != nil {
		return err
	}
	for _, t := range r.targets {
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
		if err := write(r.path(r.base(t)+ext), text); err != nil {
			return err
		}
	}
	return nil
}

// commonFiles returns what every archive has beside the program.
func (r *release) commonFiles(ctx context.Context) (entries []entry, _ error) {
	list, err := r.git(ctx, append([]string{"ls-files", "-z", "--"}, tracked...)...)
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(strings.TrimRight(list, "\x00"), "\x00") {
		e, err := readEntry(filepath.Join(r.root, name), name)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	for _, glob := range []struct{ files, dir string }{
		{"LICENSES.txt", ""}, {"completions/*", "completions"}, {"man/*.1", "man/man1"}, {"man/*.5", "man/man5"},
	} {
		files, err := filepath.Glob(r.path("build", glob.files))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			e, err := readEntry(file, path.Join(glob.dir, filepath.Base(file)))
			if err != nil {
				return nil, err
			}
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// readEntry returns a file as an entry. Of its mode only the right to execute
// remains: the rest is the umask of whoever checked it out.
func readEntry(file, name string) (entry, error) {
	st, err := os.Stat(file)
	if err != nil {
		return entry{}, err
	}
	text, err := os.ReadFile(file)
	mode := fs.FileMode(0o644)
	if st.Mode()&0o100 != 0 {
		mode = 0o755
	}
	return entry{name, text, mode}, err
}

// tarGz returns an archive of the entries below one directory, owned by root.
func (r *release) tarGz(dir string, entries []entry) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
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
	err = z.Close()
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
