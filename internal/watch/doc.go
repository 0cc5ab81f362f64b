// Package watch tells when files have changed: saved in place, replaced by rename,
// swapped behind a symlink, deleted and made again. A burst of changes is told
// once, and a change is one of content.
//
// It does not know what is in the files.
package watch
