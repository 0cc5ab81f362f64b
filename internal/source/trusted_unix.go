//go:build unix

package source

import (
	"io/fs"
	"os"
	"syscall"
)

// trusted reports whether a file is this user's, root's or that of its directory's owner,
// and no other may write in it.
func trusted(file, dir fs.FileInfo) bool {
	f, ok := file.Sys().(*syscall.Stat_t)
	d, also := dir.Sys().(*syscall.Stat_t)
	return ok && also && (f.Uid == uint32(os.Geteuid()) || f.Uid == 0 || f.Uid == d.Uid) && file.Mode().Perm()&0o022 == 0 //nolint:gosec // user ids have 32 bits
}
