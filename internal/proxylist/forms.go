package proxylist

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// form is one spelling of a proxy.
type form struct {
	name  string
	parts func(s string) (parts, bool)
}

// split returns the parts of a line that has the form. None has white space in it.
func (f form) split(s string) (parts, bool) {
	if strings.ContainsAny(s, " \t") {
		return parts{}, false
	}
	return f.parts(s)
}

// forms are in the order in which an ambiguous line is taken for one.
var forms = []form{
	{"URL", splitURL},
	{"HOST:PORT", splitHostPort},
	{"HOST:PORT:USER:PASSWORD", splitHostFirst},
	{"USER:PASSWORD@HOST:PORT", splitAt},
	{"USER:PASSWORD:HOST:PORT", splitHostLast},
}

// formOf returns the form that fits the most lines; nil if none fits any. Among
// equals, it is the one whose hosts look most like hosts, then the one that fits
// the earliest line, then the first of forms.
func formOf(lines []line) *form {
	var best *form
	var most score
	for i := range forms {
		var s score
		for n, l := range lines {
			p, ok := forms[i].split(l.text)
			if !ok {
				continue
			}
			if s.fits++; s.fits == 1 {
				s.early = len(lines) - n
			}
			if p.url != "" || likeHost(p.host) {
				s.hosts++
			}
		}
		if s.fits > 0 && (best == nil || s.beats(most)) {
			best, most = &forms[i], s
		}
	}
	return best
}

type score struct{ fits, hosts, early int }

func (s score) beats(t score) bool {
	if s.fits != t.fits {
		return s.fits > t.fits
	}
	if s.hosts != t.hosts {
		return s.hosts > t.hosts
	}
	return s.early > t.early
}

// likeHost reports whether text is an address, or a name with a dot whose last
// label is none of digits.
func likeHost(s string) bool {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return true
	}
	i := strings.LastIndexByte(s, '.')
	return i > 0 && strings.IndexFunc(s[i+1:], func(r rune) bool { return r < '0' || r > '9' }) >= 0
}

var schemeText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

func hasScheme(s string) bool { return strings.Contains(s, "://") && schemeText.MatchString(s) }

func splitURL(s string) (parts, bool) {
	return parts{url: s}, hasScheme(s) || strings.EqualFold(s, "direct")
}

func splitHostPort(s string) (p parts, ok bool) {
	host, rest, ok := cutHost(s)
	p = parts{host: host, port: rest}
	return p, ok && isPort(rest)
}

func splitHostFirst(s string) (p parts, ok bool) {
	host, rest, ok := cutHost(s)
	port, rest, more := strings.Cut(rest, ":")
	user, password, both := strings.Cut(rest, ":")
	p = parts{host: host, port: port, user: user, password: password, auth: true}
	return p, ok && more && both && isPort(port) && user != ""
}

func splitAt(s string) (p parts, ok bool) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return p, false
	}
	if p, ok = splitHostPort(s[i+1:]); !ok {
		return p, false
	}
	p.user, p.password, _ = strings.Cut(s[:i], ":")
	p.auth = true
	return p, p.user != "" && !hasScheme(s)
}

func splitHostLast(s string) (p parts, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return p, false
	}
	start := strings.LastIndexByte(s[:i], ':') // of what stands before the host
	if strings.HasSuffix(s[:i], "]") {
		start = strings.LastIndexByte(s[:i], '[') - 1
	}
	if start < 0 || s[start] != ':' {
		return p, false
	}
	if p, ok = splitHostPort(s[start+1:]); !ok {
		return p, false
	}
	user, password, both := strings.Cut(s[:start], ":")
	p.user, p.password, p.auth = user, password, true
	return p, both && user != "" && !hasScheme(s)
}

// cutHost returns the host before the first colon, or in brackets, and what follows
// the colon.
func cutHost(s string) (host, rest string, ok bool) {
	if strings.HasPrefix(s, "[") {
		host, rest, ok = strings.Cut(s, "]:")
		host += "]"
		_, err := netip.ParseAddr(strings.Trim(host, "[]"))
		return host, rest, ok && err == nil
	}
	host, rest, ok = strings.Cut(s, ":")
	return host, rest, ok && hostText(host)
}

// hostText reports whether text may be a host: package config parses it.
func hostText(s string) bool {
	for i, r := range s {
		if r != '_' && !unicode.IsLetter(r) && !unicode.IsNumber(r) && (i == 0 || r != '.' && r != '-') {
			return false
		}
	}
	return s != ""
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}
