package upstream

import (
	"bufio"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

const hostsFresh = 5 * time.Second // the hosts file is looked at again after this

// localNames knows the names by which this machine is called on itself: what its
// hosts file gives an address that only this machine reaches, and localhost. No
// name server is asked, so that no name leaves the machine. It is safe for
// concurrent use.
type localNames struct {
	path string

	mu      sync.Mutex
	checked time.Time
	changed time.Time // the file's, when it was read
	names   map[string][]netip.Addr
}

func newLocalNames() *localNames {
	path := "/etc/hosts"
	if runtime.GOOS == "windows" {
		path = filepath.Join(os.Getenv("SystemRoot"), `System32\drivers\etc\hosts`)
	}
	return &localNames{path: path}
}

// localhost are the addresses that the name stands for where the hosts file does not say
// (RFC 6761 section 6.3).
var localhost = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// addresses returns the addresses of this machine alone that a normalised name
// stands for here, none for any other name.
func (l *localNames) addresses(name string) []netip.Addr {
	if addrs := l.listed(name); len(addrs) > 0 {
		return addrs
	}
	for _, local := range []string{"localhost", "localhost.localdomain"} {
		if name == local || strings.HasSuffix(name, "."+local) {
			return localhost
		}
	}
	return nil
}

func (l *localNames) listed(name string) []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.checked) >= hostsFresh {
		l.checked = now
		if info, err := os.Stat(l.path); err == nil && !info.ModTime().Equal(l.changed) {
			l.changed, l.names = info.ModTime(), readHosts(l.path)
		}
	}
	return l.names[name]
}

// readHosts reads what a hosts file (hosts(5)) says of addresses that only this
// machine reaches. A file that cannot be read says nothing.
func readHosts(path string) map[string][]netip.Addr {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	names := map[string][]netip.Addr{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		ip, err := netip.ParseAddr(fields[0])
		if err != nil || !besideOnly(ip.Unmap().WithZone("")) {
			continue
		}
		for _, name := range fields[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			names[name] = append(names[name], ip.Unmap().WithZone(""))
		}
	}
	return names
}
