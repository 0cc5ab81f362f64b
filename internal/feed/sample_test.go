package feed

import (
	"testing"
	"unsafe"
)

// What the table keeps of a tunnel stays small beside the 7.8 KiB of the tunnel.
func TestEntryIsSmall(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(entry{}); size > 400 {
		t.Errorf("%d bytes a tunnel", size)
	}
}
