package config

import (
	"fmt"
	"os"
	"runtime"
	"slices"

	"proxyd/internal/target"
)

// literalSecret notes a password that stands in the file itself.
func (b *builder) literalSecret(key string) {
	if b.place(key).env == "" {
		b.literal = append(b.literal, key)
	}
}

// fileMode says who else can get at the passwords in the file. Those that come
// from variables and other files are not its concern.
func (b *builder) fileMode() {
	if b.path == "" || runtime.GOOS == "windows" { // the mode says nothing there
		return
	}
	st, err := os.Stat(b.path)
	if err != nil || !st.Mode().IsRegular() {
		return
	}
	perm := st.Mode().Perm()
	const writable, open = 0o002, 0o077
	do := fmt.Sprintf("chmod 600 %s, or write the password as ${NAME} or ${file:/path}", b.path)
	switch {
	case perm&writable != 0 && len(b.literal) > 0:
		b.fault(b.literal[0], do, "holds a password, and every user of this machine may change the file (mode %04o)", perm)
	case perm&writable != 0:
		b.warnings = append(b.warnings, Error{File: b.path, Message: fmt.Sprintf("every user of this machine may change it (mode %04o)", perm), Hint: "chmod 600 " + b.path})
	case perm&open != 0 && len(b.literal) > 0:
		b.warn(b.literal[0], do, "holds a password, and others may read the file (mode %04o)", perm)
	}
}

// pastedTimeout warns, once, of outbounds of a pasted block that say nothing of
// time: cryptofeed and proxyd mean different ones.
func (b *builder) pastedTimeout(c *Config) {
	for _, key := range b.withoutTimeout {
		at := b.place(key)
		if !at.pasted || at.env != "" || !slices.ContainsFunc(c.Pools, func(p Pool) bool { return p.Inline && p.Name == key }) {
			continue
		}
		b.warn(key, "write timeout_seconds: 30 to keep it, or 4 (many clients give up after 5 s)", "has no timeout_seconds: that is 4 s here, and 30 s in cryptofeed; so for every outbound without one")
		return
	}
}

// blindRules warns of routes that refuse addresses: most clients ask by name,
// and what a name leads to is not looked at.
func (b *builder) blindRules(c *Config) {
	if !resolvesElsewhere(c) {
		return
	}
	for i, r := range c.Routes {
		if r.Way.Action != Reject {
			continue
		}
		for j, h := range r.Hosts {
			if h.Kind == target.CIDR {
				b.warn(fmt.Sprintf("routes[%d].hosts[%d]", i, j), "refuse its names too",
					"%s refuses clients that ask for an address; a name that leads there is resolved by the upstream and passes", h)
				break
			}
		}
	}
}

// resolvesElsewhere reports whether some upstream is given names.
func resolvesElsewhere(c *Config) bool {
	for _, p := range c.Pools {
		for _, m := range p.Proxies {
			if m.URL.Scheme != SchemeDirect && m.URL.Scheme != SchemeSOCKS4 {
				return true
			}
		}
	}
	return false
}
