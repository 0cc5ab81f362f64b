package admin

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// The file is private from its first moment, not only after the chmod.
func TestSocketIsPrivateFromTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	ln, err := (&net.ListenConfig{Control: private}).Listen(context.Background(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
}
