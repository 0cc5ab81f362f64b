package isolate

import (
	"errors"
	"net/netip"
	"sync"
)

// FakePrefix is the range of the addresses that stand for names: reserved for
// benchmarks (RFC 2544), so that no target is in it.
var FakePrefix = netip.MustParsePrefix("198.18.0.0/15")

// own is the address of the namespace itself, the first one of FakePrefix but one.
var own = FakePrefix.Addr().Next()

// firstFake is the first address that stands for a name; those below are kept free.
const firstFake = 256

// errFull is that every address stands for a name already.
var errFull = errors.New("every address of 198.18.0.0/15 stands for a name")

// Names gives each name an address, which it keeps for as long as the Names live.
// It is safe for concurrent use.
type Names struct {
	mu     sync.Mutex
	byName map[string]netip.Addr
	names  []string // names[i] has the address firstFake+i of the range
	most   int
}

// NewNames returns an empty table, with room for 130,816 names.
func NewNames() *Names {
	return &Names{byName: map[string]netip.Addr{}, most: 1<<(32-FakePrefix.Bits()) - firstFake}
}

// Addr returns the address that stands for a name, in lower case and without a
// final dot. A name that has none gets the next one.
func (n *Names) Addr(name string) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.byName[name]; ok {
		return a, nil
	}
	if len(n.names) >= n.most {
		return netip.Addr{}, errFull
	}
	i := firstFake + len(n.names)
	base := FakePrefix.Addr().As4()
	a := netip.AddrFrom4([4]byte{base[0], base[1] + byte(i>>16), byte(i >> 8), byte(i)})
	n.names = append(n.names, name)
	n.byName[name] = a
	return a, nil
}

// Name returns the name that an address stands for, false if it stands for none.
func (n *Names) Name(a netip.Addr) (string, bool) {
	a = a.Unmap()
	if !FakePrefix.Contains(a) {
		return "", false
	}
	b, base := a.As4(), FakePrefix.Addr().As4()
	i := int(b[1]-base[1])<<16 + int(b[2])<<8 + int(b[3]) - firstFake
	n.mu.Lock()
	defer n.mu.Unlock()
	if i < 0 || i >= len(n.names) {
		return "", false
	}
	return n.names[i], true
}

// has reports whether a name has an address.
func (n *Names) has(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.byName[name]
	return ok
}
