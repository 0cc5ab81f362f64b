// Package proxylist parses the lists of proxies that providers hand out, and
// recognises the files of other proxy programs.
//
// It splits lines into their parts, and no more: package config decides whether a
// host, a port or a scheme is valid. No problem that it reports repeats text of a
// list, which may be secret.
package proxylist

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// DefaultScheme is that of proxies whose list names none.
const DefaultScheme = "http"

// Entry is one proxy of a list.
type Entry struct {
	Line int    // from 1
	URL  string // user and password percent-encoded; ${ has no meaning in it
}

// Problem is a line that is no proxy.
type Problem struct {
	Line          int
	Message, Hint string
}

// List is what a list holds.
type List struct {
	Form       string // the form of its lines, such as "HOST:PORT:USER:PASSWORD"; "" if none was found
	Entries    []Entry
	Problems   []Problem
	SchemeLess bool // lines without a scheme took the caller's
}

// Parse parses a list. All its lines have one form, that which fits the most of
// them, and among equals the one that fits the first line:
//
//	URL                      socks5://user:password@host:1080
//	HOST:PORT
//	HOST:PORT:USER:PASSWORD  the password may contain colons
//	USER:PASSWORD@HOST:PORT
//	USER:PASSWORD:HOST:PORT
//	CSV with a header        columns such as ip, port, username, password, protocol
//
// A # begins a comment at the start of a line or after white space. The text is UTF-8,
// or UTF-16 with its mark. scheme is that of lines without one; "" means DefaultScheme.
func Parse(text []byte, scheme string) List {
	text = UTF8(text)
	if scheme == "" {
		scheme = DefaultScheme
	}
	lines := contentLines(text, false)
	if len(lines) == 0 {
		return List{}
	}
	if t, ok := csvHeader(contentLines(text, true)[0].text); ok {
		return t.parse(contentLines(text, true)[1:], scheme)
	}
	f := formOf(lines)
	if f == nil {
		l := List{}
		for _, s := range lines {
			l.Problems = append(l.Problems, s.problem("is no proxy in a form that proxyd reads", formsHint))
		}
		return l
	}
	l := List{Form: f.name}
	for _, s := range lines {
		p, ok := f.split(s.text)
		if !ok {
			l.Problems = append(l.Problems, s.problem("is not of the form "+f.name+", which the list has", "write it in that form, or put it into a list of its own"))
			continue
		}
		if p.url == "" {
			l.SchemeLess = true
		}
		l.Entries = append(l.Entries, Entry{s.number, p.text(scheme)})
	}
	return l
}

const formsHint = "write a URL such as socks5://user:password@host:1080, host:port, host:port:user:password, user:password@host:port or user:password:host:port"

// line is a line of a list with content.
type line struct {
	number int
	text   string
}

// problem returns what is wrong with a line, unless its encoding is.
func (l line) problem(message, hint string) Problem {
	if strings.IndexByte(l.text, 0) >= 0 {
		message, hint = "has a zero byte", "is it a text? save it as UTF-8"
	}
	return Problem{l.number, message, hint}
}

// contentLines returns the lines of eachLine.
func contentLines(text []byte, quotes bool) []line { return slices.Collect(eachLine(text, quotes)) }

// eachLine yields the lines that are not empty, without comments. In a CSV file a # in
// quotes begins none.
func eachLine(text []byte, quotes bool) iter.Seq[line] {
	return func(yield func(line) bool) {
		n := 0
		for raw := range bytes.Lines(text) {
			n++
			if s := strings.TrimSpace(withoutComment(string(raw), quotes)); s != "" && !yield(line{n, s}) {
				return
			}
		}
	}
}

// withoutComment cuts a line at a # that is its first character, or follows white
// space.
func withoutComment(s string, quotes bool) string {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"' && quotes:
			quoted = !quoted
		case s[i] == '#' && !quoted && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t'):
			return s[:i]
		}
	}
	return s
}

// parts are what a line names.
type parts struct {
	url                        string // the whole; the rest is unset then
	host, user, password, port string
	auth                       bool
	scheme                     string // "" for none
}

// text returns the URL of the parts.
func (p parts) text(scheme string) string {
	if p.url != "" {
		return p.url
	}
	if p.scheme != "" {
		scheme = p.scheme
	}
	auth := ""
	if p.auth {
		auth = Escape(p.user) + ":" + Escape(p.password) + "@"
	}
	return fmt.Sprintf("%s://%s%s:%s", scheme, auth, p.host, p.port)
}

// Escape percent-encodes a user or a password for a URL: every byte but letters,
// digits and - . _ ~.
func Escape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}
