package watch

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxLinks is how many symlinks a path may lead through, as in Linux.
const maxLinks = 40

// walk calls visit for each name that decides what a path leads to: the symlinks
// on the way, with the directory that holds each, and the end, or the first name
// that is missing (info is then nil). Path is absolute; dir is free of symlinks.
func walk(path string, visit func(dir, name string, info fs.FileInfo)) {
	dir, rest := split(path)
	for links := 0; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, string(filepath.Separator))
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		at := filepath.Join(dir, name)
		info, err := os.Lstat(at)
		switch {
		case err != nil:
			visit(dir, name, nil)
			return
		case info.Mode()&fs.ModeSymlink != 0:
			visit(dir, name, info)
			target, err := os.Readlink(at)
			if links++; err != nil || links > maxLinks {
				return
			}
			target = filepath.FromSlash(target)
			if filepath.IsAbs(target) {
				dir, target = split(target)
			}
			rest = target + string(filepath.Separator) + rest
		case info.IsDir():
			dir = at
			if rest == "" {
				visit(filepath.Dir(dir), name, info)
			}
		default:
			visit(dir, name, info)
			return
		}
	}
}

// split cuts an absolute path into its root and what is below.
func split(path string) (root, below string) {
	n := len(filepath.VolumeName(path))
	return path[:n] + string(filepath.Separator), path[n:]
}

// changedSince reports whether something on the way to a file's content was made,
// renamed or written at or after a moment.
func changedSince(path string, moment time.Time) (changed bool) {
	walk(path, func(_, _ string, info fs.FileInfo) {
		changed = changed || info != nil && !changeTime(info).Before(moment)
	})
	return changed
}
