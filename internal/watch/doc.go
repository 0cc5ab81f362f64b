// Package watch tells when files have changed: saved in place, replaced by rename,
// swapped behind a symlink, deleted and made again. A burst of changes is told
// once, and a change is one of content.
//
// Events of the file system make it quick; a slow poll by content finds what they
// do not tell (network file systems, a directory further up that is renamed) and
// carries on alone where there are no events to be had.
//
// It does not know what is in the files, and keeps only hashes of them.
package watch
