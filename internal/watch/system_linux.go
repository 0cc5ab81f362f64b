package watch

import (
	"io/fs"
	"syscall"
	"time"
)

// A directory's watch does not tell of a file that is mounted over a name in it,
// as one is into a container, nor of writing through another hard link.
const watchFiles = true

// changeTime is when an inode last changed; a rename counts, and nobody can set it back.
func changeTime(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return info.ModTime()
}
