package dialer

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A name that the hosts file gives an address that only this machine reaches is one of
// its spellings, and only such a name.
func TestLocalNamesComeFromTheHostsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# comment\n127.0.0.1 localhost Box.Example. # the rest\n127.0.1.1\tbox\n::1 ip6-loopback box\nfe80::1%lo0 link\n10.0.0.1 corp\nnonsense x\n192.0.2.1 far.example\n")
	l := &localNames{path: path}
	want := map[string][]string{
		"localhost": {"127.0.0.1"}, "box.example": {"127.0.0.1"}, "box": {"127.0.1.1", "::1"}, "ip6-loopback": {"::1"}, "link": {"fe80::1"},
		"a.localhost": {"127.0.0.1", "::1"}, "localhost.localdomain": {"127.0.0.1", "::1"},
		"corp": nil, "far.example": nil, "x": nil, "notlocalhost": nil, "localhost.example": nil,
	}
	for name, addrs := range want {
		var got []string
		for _, a := range l.addresses(name) {
			got = append(got, a.String())
		}
		if d := cmp.Diff(addrs, got); d != "" {
			t.Errorf("%s: -want +got:\n%s", name, d)
		}
	}
	write("127.0.0.9 new\n")
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	l.checked = time.Time{}
	if got := l.addresses("new"); len(got) != 1 || got[0] != netip.MustParseAddr("127.0.0.9") || l.addresses("box") != nil {
		t.Errorf("after a change: %v, %v", got, l.addresses("box"))
	}
}
