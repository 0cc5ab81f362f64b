//go:build !linux

package watch

import (
	"io/fs"
	"time"
)

const watchFiles = false // a directory's watch covers them

func changeTime(info fs.FileInfo) time.Time { return info.ModTime() }
