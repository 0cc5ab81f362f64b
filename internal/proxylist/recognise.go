package proxylist

import (
	"bytes"
	"regexp"
	"strings"
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
	clashFile  = regexp.MustCompile(`(?m)^(proxy-groups|proxy-providers|rule-providers|mixed-port|socks-port|redir-port|external-controller) *:`)
	clashNodes = regexp.MustCompile(`(?m)^"?proxies"? *:`)
	clashNode  = regexp.MustCompile(`(?m)^[^#\n]*\bserver"? *:`)
	squidFile  = regexp.MustCompile(`(?m)^(http_port|cache_peer|http_access|acl|never_direct) +\S`)
	envFile    = regexp.MustCompile(`(?m)^\s*(export\s+)?[A-Za-z_][A-Za-z0-9_]*_(?i:proxy)=`)
	gostFile   = regexp.MustCompile(`(?m)^(services|chains|hops) *:|"?(ServeNodes|ChainNodes)"? *:`)
	gostParts  = regexp.MustCompile(`(?m)^[^#\n]*\b(connector|handler|dialer|nodes|hops|addr|ServeNodes|ChainNodes)"? *:`)
	gostFlags  = regexp.MustCompile(`(?m)^([^#\n]*[\s/=])?gost\s([^\n]*\s)?-[FL][= ]|^\s*-F[= ]?\S+`)
)

// Recognise returns what a file is that is none of proxyd's. A list is one in which
// every line fits a form.
func Recognise(text []byte) Kind {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	switch {
	case clashFile.Match(text), clashNodes.Match(text) && clashNode.Match(text):
		return Clash
	case squidFile.Match(text):
		return Squid
	case gostFile.Match(text) && gostParts.Match(text), gostFlags.Match(text):
		return Gost
	case envFile.Match(text):
		return Env
	}
	lines := contentLines(text, false)
	if len(lines) == 0 {
		return Unknown
	}
	if _, ok := csvHeader(lines[0].text); ok {
		return Lines
	}
	for _, l := range lines {
		if !fits(l.text) {
			return Unknown
		}
	}
	return Lines
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
