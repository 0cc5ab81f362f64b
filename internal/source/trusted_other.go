//go:build !unix

package source

import "io/fs"

// trusted reports true: what a mode does not say, the directory's access list does.
func trusted(_, _ fs.FileInfo) bool { return true }
