//go:build unix && !linux

package config_test

import (
	"os"
	"testing"
)

// obeysModes reports whether the mode of a file counts for this thread: root
// reads everything, and a single thread cannot become another user here.
func obeysModes(t *testing.T) bool {
	t.Helper()
	return os.Geteuid() != 0
}
