// Package convert turns lists of proxies and the configurations of other programs
// into a configuration of proxyd.
//
// Credentials stand in the result as ${NAME}; their values are handed out beside it.
// What cannot be carried over stands as a comment in its place, and in a list of
// losses. Hosts whose rule cannot be carried over are rejected, never sent directly.
// Convert has no effects: it reads no file but by Source.Read, and asks no server.
package convert

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"proxyd/internal/config"
	"proxyd/internal/proxylist"
	"proxyd/internal/target"
)

// Source is what is to be converted.
type Source struct {
	Name   string         // of the file, without its folder, for the first comment
	Text   []byte         // UTF-8, or UTF-16 with its mark; at most 8 MiB are useful
	Kind   proxylist.Kind // proxylist.Unknown: what it looks like
	Scheme string         // of the lines of a list without one, "" for http

	// Read returns the text of a file in the folder of the source, or below it; nil
	// where there is none. Only the file providers of Clash are read.
	Read func(path string) ([]byte, error)
}

// Loss is something that could not be carried over. It repeats no text of a list and
// no credential.
type Loss struct {
	Line int // 0: of the whole
	Text string
}

// Variable is a credential that the result refers to.
type Variable struct {
	Name  string
	Value config.Secret
}

// Result is a configuration of proxyd.
type Result struct {
	Kind      proxylist.Kind
	YAML      string
	Variables []Variable
	Losses    []Loss   // in the order of their lines
	Notes     []string // what the user should know, though nothing is lost
}

// ErrUnknown is the error for a source that looks like nothing that can be converted.
var ErrUnknown = errors.New("this looks like none of the files that can be converted: name its kind with --from " + kindWords())

func kindWords() string {
	var words []string
	for _, k := range proxylist.Kinds {
		words = append(words, string(k))
	}
	return strings.Join(words, ", ")
}

// Convert converts a source. The error says that there is nothing in it to convert.
func Convert(s Source) (*Result, error) {
	s.Text = proxylist.UTF8(s.Text)
	kind := s.Kind
	if kind == proxylist.Unknown {
		if kind = proxylist.Recognise(s.Text); kind == proxylist.Unknown && len(proxylist.Parse(s.Text, s.Scheme).Entries) > 0 {
			kind = proxylist.Lines
		}
	}
	d := newDocument(s, kind)
	var err error
	switch kind {
	case proxylist.Lines:
		err = d.list(s)
	case proxylist.Env:
		err = d.environment(s)
	case proxylist.Clash:
		err = convertClash(d, s)
	case proxylist.Squid:
		err = convertSquid(d, s)
	case proxylist.Gost:
		err = convertGost(d, s)
	default:
		err = ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(d.losses, func(a, b Loss) int { return a.Line - b.Line })
	return &Result{Kind: kind, YAML: d.write(), Variables: d.vars.list, Losses: d.losses, Notes: d.notes}, nil
}

// errNothing is the error for a source without a proxy.
func errNothing(what string, losses []Loss) error {
	err := fmt.Errorf("there is no proxy in %s", what)
	for i, l := range losses {
		if i == 5 {
			return errors.Join(err, fmt.Errorf("and %d more like these", len(losses)-i))
		}
		err = errors.Join(err, errors.New(l.String()))
	}
	return err
}

// String returns the loss with its line.
func (l Loss) String() string {
	if l.Line == 0 {
		return l.Text
	}
	return fmt.Sprintf("line %d: %s", l.Line, l.Text)
}

// list makes one pool of a list of proxies.
func (d *document) list(s Source) error {
	l := proxylist.Parse(s.Text, s.Scheme)
	type line struct {
		number int
		url    string // "" for a problem
		why    string
	}
	var lines []line
	for _, e := range l.Entries {
		lines = append(lines, line{e.Line, e.URL, ""})
	}
	for _, p := range l.Problems {
		lines = append(lines, line{p.Line, "", p.Message})
	}
	slices.SortFunc(lines, func(a, b line) int { return a.number - b.number })
	p := d.newPool("proxies", "")
	seen := map[config.URL]bool{}
	for _, e := range lines {
		if e.url == "" {
			p.comment(d.lose(e.number, "%s", e.why))
			continue
		}
		u, why := parseURL(e.url)
		switch {
		case why != "":
			p.comment(d.lose(e.number, "%s", why))
		case u.Scheme == config.SchemeDirect:
			p.comment(d.lose(e.number, "is no proxy"))
		case !seen[u]:
			seen[u] = true
			p.add(member{url: u})
		}
	}
	if len(seen) == 0 {
		return errNothing(d.source, d.losses)
	}
	if l.SchemeLess && s.Scheme == "" {
		d.note("the list names no scheme: its proxies are taken as http; if they are not, add --scheme socks5")
	}
	d.def = p.name
	return nil
}

// parseURL reads the URL of a proxy. why says what is wrong with it, without its text.
func parseURL(text string) (u config.URL, why string) {
	u, err := config.ParseProxyURL(text)
	var list config.Errors
	switch {
	case err == nil && isProxyd(u):
		return u, "is proxyd's own address"
	case err == nil:
		return u, ""
	case errors.As(err, &list) && len(list) > 0:
		return u, list[0].Message
	}
	return u, "is not a URL"
}

// isProxyd reports whether a URL leads to where proxyd listens by default.
func isProxyd(u config.URL) bool {
	return u.Port == 8877 && (u.Host.Name == "localhost" || u.Host.IP.IsLoopback() || u.Host.IP.IsUnspecified())
}

// serverName returns the name that is expected in a certificate, "" for none; ok is
// false if it is no host name.
func serverName(s string) (name string, ok bool) {
	if s == "" {
		return "", true
	}
	h, err := target.ParseHost(s)
	return h.Name, err == nil
}

// proxyURL returns the URL of a proxy from its parts.
func proxyURL(scheme, host, port, user, password string) (u config.URL, why string) {
	if host == "" || port == "" {
		return u, "has no host or no port"
	}
	auth := ""
	if user != "" || password != "" {
		auth = proxylist.Escape(user) + ":" + proxylist.Escape(password) + "@"
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	if strings.ContainsAny(host+port, "@/?# ${}") {
		return u, "has no valid host or port"
	}
	return parseURL(scheme + "://" + auth + host + ":" + port)
}
