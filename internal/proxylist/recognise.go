package proxylist

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
)

// Kind is what a file is.
type Kind string

// The kinds that are recognised.
const (
	Unknown Kind = ""
	Lines   Kind = "list"
	Env     Kind = "env"
	Clash   Kind = "clash"
	Squid   Kind = "squid"
	Gost    Kind = "gost"
)

// Kinds are all but Unknown.
var Kinds = []Kind{Lines, Env, Clash, Squid, Gost}

// String returns what a file of the kind is called: "a Clash file".
func (k Kind) String() string {
	switch k {
	case Lines:
		return "a list of proxies"
	case Env:
		return "a file of environment variables"
	case Clash:
		return "a Clash file"
	case Squid:
		return "a squid configuration"
	case Gost:
		return "a gost configuration"
	}
	return "an unknown file"
}

var (
	clashKeys  = []string{"proxy-groups", "proxy-providers", "rule-providers", "mixed-port", "socks-port", "redir-port", "external-controller"}
	squidWords = []string{"http_port", "cache_peer", "http_access", "acl", "never_direct"}
	gostKeys   = []string{"services", "chains", "hops"}

	// These are for lines that hold one of their words: they are slow on long files.
	clashNode = regexp.MustCompile(`^[^#\n]*\bserver"? *:`)
	gostParts = regexp.MustCompile(`^[^#\n]*\b(connector|handler|dialer|nodes|hops|addr|ServeNodes|ChainNodes)"? *:`)
	gostFlags = regexp.MustCompile(`^([^#\n]*[\s/=])?gost\s([^\n]*\s)?-[FL][= ]|^\s*-F[= ]?\S+`)
)

// Recognise returns what a file is that is none of proxyd's. A list is one in which
// every line fits a form.
func Recognise(text []byte) Kind {
	text = UTF8(text)
	var s signs
	for line := range bytes.Lines(text) {
		if s.look(line); s.clash {
			return Clash
		}
	}
	switch {
	case s.squid:
		return Squid
	case s.gost:
		return Gost
	case s.env:
		return Env
	}
	return recogniseList(text)
}

// signs are what the lines of a file have shown.
type signs struct {
	clash, squid, gost, env bool
	proxies, nodes          bool // a top-level key of Clash, of gost, that needs more beside it
}

// look takes the next line.
func (s *signs) look(line []byte) {
	key := topKey(line)
	switch {
	case key == "":
	case slices.Contains(clashKeys, key):
		s.clash = true
	case key == "proxies":
		s.proxies = true
	case slices.Contains(gostKeys, key):
		s.nodes = true
	}
	if bytes.Contains(line, []byte("Nodes")) && (bytes.Contains(line, []byte("ServeNodes")) || bytes.Contains(line, []byte("ChainNodes"))) {
		s.nodes = true
	}
	s.clash = s.clash || s.proxies && bytes.Contains(line, []byte("server")) && clashNode.Match(line)
	s.gost = s.gost || s.nodes && gostParts.Match(line)
	word, _, more := bytes.Cut(line, []byte(" "))
	s.squid = s.squid || more && slices.Contains(squidWords, string(word)) && len(bytes.TrimSpace(line)) > len(word)
	trimmed := bytes.TrimSpace(line)
	if bytes.Contains(line, []byte("gost")) || bytes.HasPrefix(trimmed, []byte("-F")) {
		s.gost = s.gost || gostFlags.Match(line)
	}
	s.env = s.env || isProxyVariable(trimmed)
}

// topKey returns the key of a YAML line that is not indented, "" for none.
func topKey(line []byte) string {
	if len(line) == 0 || line[0] != '"' && (line[0] < 'a' || line[0] > 'z') {
		return ""
	}
	key, _, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return ""
	}
	return string(bytes.Trim(key, "\" "))
}

// isProxyVariable reports whether a line sets a variable whose name ends in _PROXY.
func isProxyVariable(line []byte) bool {
	name, _, ok := bytes.Cut(line, []byte("="))
	if rest, export := bytes.CutPrefix(name, []byte("export")); export && len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
		name = bytes.TrimSpace(rest)
	}
	return ok && len(name) > len("_proxy") && bytes.EqualFold(name[len(name)-len("_proxy"):], []byte("_proxy")) && !bytes.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}

// recogniseList returns Lines if every line of a text fits a form, or if the first is
// the header of a CSV file.
func recogniseList(text []byte) Kind {
	kind, first := Unknown, true
	for l := range eachLine(text, false) {
		if first {
			if _, ok := csvHeader(l.text); ok {
				return Lines
			}
			first = false
		}
		if !fits(l.text) {
			return Unknown
		}
		kind = Lines
	}
	return kind
}

// fits reports whether a line has one of the forms.
func fits(s string) bool {
	for _, f := range forms {
		if p, ok := f.split(s); ok {
			return !strings.EqualFold(p.url, "direct")
		}
	}
	return false
}

// UTF8 returns a text without its byte order mark, as UTF-8. Windows' Notepad writes
// UTF-16 with a mark, among others. An odd last byte is left out.
func UTF8(text []byte) []byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	units := make([]uint16, 0, len(text)/2)
	for i := 2; i+1 < len(text); i += 2 {
		units = append(units, order.Uint16(text[i:]))
	}
	return []byte(string(utf16.Decode(units)))
}
