package config

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"proxyd/internal/config/internal/raw"
	"proxyd/internal/proxylist"
)

const (
	maxListed   = 10_000  // how many proxies a list may have
	maxListSize = 4 << 20 // bytes
	maxSkipped  = 5       // lines of a pool's list that are named in warnings
)

// ParseList reads a list of proxies in one of the forms of package proxylist, and
// skips repeated proxies; ${...} is literal. scheme is that of lines without one, ""
// for http. The proxies have names and exits. urls holds the URL of each, secrets
// included. errs name file and line of the others and repeat no text that may be
// secret.
func ParseList(file string, text []byte, scheme Scheme) (proxies []Proxy, urls []string, errs Errors) {
	l := readList(file, text, scheme, false)
	names, times := map[string]int{}, map[Identity]int{}
	for _, p := range l.proxies {
		times[IdentityOf(p)]++
	}
	for i := range l.proxies {
		p := &l.proxies[i]
		p.Apart = times[IdentityOf(*p)] > 1
		p.Name = p.URL.Authority()
		if names[p.Name]++; names[p.Name] > 1 {
			p.Name += "#" + strconv.Itoa(names[p.Name])
		}
		p.Exit = p.Name
	}
	return l.proxies, l.urls, l.errs
}

// ParseProxyURL reads the URL of a proxy. ${...} is literal in it. The error repeats
// no part of it that may be secret.
func ParseProxyURL(text string) (URL, error) {
	r := newReferences(&report{at: map[string]position{}}, nil, false)
	u, ok := r.url("", strings.ReplaceAll(text, "${", "$${"))
	if !ok {
		return URL{}, r.errs
	}
	return u, nil
}

// proxyLines are the proxies of a list.
type proxyLines struct {
	proxies  []Proxy // without names
	urls     []string
	errs     Errors // of the lines that are none
	literal  bool   // a line has a password
	resolved bool   // a line is socks4
}

// readList reads a list; remote reports whether others than the operator write it.
func readList(file string, text []byte, scheme Scheme, remote bool) (l proxyLines) {
	b := newReferences(&report{path: file, at: map[string]position{}}, nil, false)
	parsed := proxylist.Parse(text, string(scheme))
	at := func(line int) string {
		key := strconv.Itoa(line)
		b.at[key] = position{file: file, line: line, col: 1}
		return key
	}
	for _, p := range parsed.Problems {
		b.errorf(at(p.Line), p.Hint, "%s", p.Message)
	}
	type listed struct {
		Identity
		password string
	}
	seen := map[listed]bool{}
	for _, e := range parsed.Entries {
		key := at(e.Line)
		if len(l.proxies) == maxListed {
			b.errorf(key, "split it", "the list has more than %d proxies", maxListed)
			break
		}
		u, ok := b.url(key, strings.ReplaceAll(e.URL, "${", "$${"))
		switch {
		case !ok:
			continue
		case u.Scheme == SchemeDirect:
			b.errorf(key, "remove it", "is no proxy")
			continue
		case remote && u.Host.IsIP() && u.Host.IP.Unmap().IsLinkLocalUnicast(): // a metadata service, as likely as not
			b.errorf(key, "remove it", "is a link-local address, which a list from a URL may not name")
			continue
		}
		p := Proxy{URL: u, Weight: 1, Tier: 1, Enabled: true, Listed: true}
		id := listed{IdentityOf(p), u.Password.Reveal()}
		if seen[id] {
			continue
		}
		seen[id] = true
		l.proxies, l.urls = append(l.proxies, p), append(l.urls, e.URL)
		l.literal = l.literal || !u.Password.IsZero()
		l.resolved = l.resolved || u.Scheme == SchemeSOCKS4
	}
	for i := range b.errs {
		b.errs[i].Key = ""
	}
	l.errs = sorted(b.errs)
	return l
}

// list adds the members that a pool's list has beside its own.
func (b *builder) list(key string, r raw.Pool, p *Pool) {
	p.Scheme = Scheme(orDefault(r.Scheme, proxylist.DefaultScheme))
	if r.List.Text == nil {
		b.listFromURL(key, r, p)
		return
	}
	p.List = *r.List.Text
	p.Proxies = append(p.Proxies, b.listed(key+".list", p.List, p.Scheme, p.Proxies)...)
}

// listed returns the members that a file has beside those of the pool's own.
func (b *builder) listed(at, path string, scheme Scheme, own []Proxy) []Proxy {
	switch {
	case path == "":
		b.errorf(at, "name a file, or remove it", "is empty")
		return nil
	case strings.Contains(path, "://"):
		b.errorf(at, "write the URL of a list as list: {from: URL}, and that of a proxy below proxies", "is a URL, not a file")
		return nil
	}
	text, err := b.inputs.read(path, maxListSize)
	if err != nil {
		if b.missingOK {
			text = []byte("http://list.invalid:1")
		} else {
			b.lists[path] = [sha256.Size]byte{}
			b.unreadable(at, path, err)
			return nil
		}
	}
	b.lists[path] = sha256.Sum256(text)
	l := readList(path, text, scheme, false)
	switch n := len(l.errs); {
	case n > 0 && n > len(l.proxies):
		b.errorf(at, "correct it, or name another file", "more lines of the list are wrong than right (%d to %d): %s", n, len(l.proxies), l.errs[0])
		return nil
	case len(l.proxies) == 0 && len(own) == 0:
		b.errorf(at, "write proxies into it, one a line", "%s has no proxy", b.shown(path))
		return nil
	}
	b.warnOfList(at, l)
	if l.literal {
		b.checkListMode(at, path)
	}
	return beside(own, l.proxies)
}

// beside returns the proxies of a list that a pool does not have by itself: what is
// written out counts.
func beside(own, listed []Proxy) []Proxy {
	if len(own) == 0 {
		return listed
	}
	written := map[Identity]bool{}
	for _, p := range own {
		written[IdentityOf(p)] = true
	}
	return slices.DeleteFunc(slices.Clone(listed), func(p Proxy) bool { return written[IdentityOf(p)] })
}

// warnOfList warns of the lines that are skipped.
func (b *builder) warnOfList(key string, l proxyLines) {
	for i, e := range l.errs {
		if i == maxSkipped {
			b.warnf(key, "correct or remove them", "%d more lines are skipped", len(l.errs)-i)
			break
		}
		e.Message += ": it is skipped"
		b.warnings = append(b.warnings, e)
	}
	if l.resolved {
		b.warnf(key, "use socks4a:// if the proxies can", "socks4 has no names: proxyd resolves the exchange's name on this machine")
	}
}

// ShrunkLists returns what is to be said of the lists of named pools that have less
// than half of the members in next that they have in prev: one that is being written,
// or a download that failed.
func ShrunkLists(prev, next *Config) (lines []string) {
	before := PoolsByName(prev)
	for _, p := range next.Pools {
		old := before[p.Name]
		if old == nil || p.List == "" || old.List != p.List {
			continue
		}
		if was, n := len(old.Proxies)-len(written(*old)), len(p.Proxies)-len(written(p)); 2*n < was {
			key := "pools." + p.Name
			if p.Inline {
				key = p.Name
			}
			lines = append(lines, fmt.Sprintf("%s.list: %s has shrunk from %s to %d: correct it", key, listWords(p), listText(was), n))
		}
	}
	return lines
}

// listWords returns what a message calls the list of a pool.
func listWords(p Pool) string {
	if p.Source != nil {
		return "the list from " + p.Source.Shown
	}
	return filepath.Base(p.List)
}

// listText returns what the difference and the printed configuration say of a list.
func listText(n int) string {
	if n == 1 {
		return "1 member"
	}
	return fmt.Sprintf("%d members", n)
}
