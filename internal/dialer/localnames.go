package dialer

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

const hostsFresh = 5 * time.Second // the hosts file is checked again after this

// localNames holds the names of addresses that only this machine reaches: those of
// its hosts file, and localhost. No name server is asked, so that no name leaves
// the machine. It is safe for concurrent use.
type localNames struct {
	path string

	mu      sync.Mutex
	checked time.Time
	changed time.Time // the file's modification time
	names   map[string][]netip.Addr
}

func newLocalNames() *localNames {
	path := "/etc/hosts"
	if runtime.GOOS == "windows" {
		path = filepath.Join(os.Getenv("SystemRoot"), `System32\drivers\etc\hosts`)
	}
	return &localNames{path: path}
}

// localhost are the addresses of the name where the hosts file has none
// (RFC 6761 section 6.3).
var localhost = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// addresses returns those addresses of a normalised name that only this machine
// reaches.
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

// listed returns the addresses of a name in the hosts file.
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

// readHosts returns the names that a hosts file (hosts(5)) gives to addresses that
// only this machine reaches, none if the file cannot be read.
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
		if err != nil || !isMachineLocal(ip.Unmap().WithZone("")) {
			continue
		}
		for _, name := range fields[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			names[name] = append(names[name], ip.Unmap().WithZone(""))
		}
	}
	return names
}
