package config

import (
	"bytes"
	"strconv"
	"strings"
)

// maxListed is how many proxies a list may have.
const maxListed = 10_000

// ParseList reads a list of proxies, one URL a line. It skips empty lines,
// those that begin with #, and repeated proxies; ${...} is literal. lines holds
// the line of each proxy, secrets included. errs name file and line of the
// others and repeat no text that may be secret.
func ParseList(file string, text []byte) (proxies []Proxy, lines []string, errs Errors) {
	b := newReferences(&report{path: file, at: map[string]position{}}, nil, false)
	seen, names := map[Identity]bool{}, map[string]int{}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		s := strings.TrimSpace(strings.TrimPrefix(string(line), "\ufeff"))
		if s == "" || s[0] == '#' {
			continue
		}
		key := strconv.Itoa(n)
		b.at[key] = position{file: file, line: n, col: 1}
		if len(proxies) == maxListed {
			b.errorf(key, "split it", "the list has more than %d proxies", maxListed)
			break
		}
		u, ok := b.url(key, strings.ReplaceAll(s, "${", "$${"))
		switch {
		case !ok:
			continue
		case u.Scheme == SchemeDirect:
			b.errorf(key, "remove it", "is no proxy")
			continue
		}
		p := Proxy{Name: u.Authority(), URL: u, Weight: 1, Tier: 1, Enabled: true}
		id := IdentityOf(p)
		if seen[id] {
			continue
		}
		seen[id] = true
		if names[p.Name]++; names[p.Name] > 1 {
			p.Name += "#" + strconv.Itoa(names[p.Name])
		}
		p.Exit = p.Name
		proxies, lines = append(proxies, p), append(lines, s)
	}
	for i := range b.errs {
		b.errs[i].Key = ""
	}
	return proxies, lines, b.errs
}
