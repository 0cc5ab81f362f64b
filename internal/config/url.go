package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"proxyd/internal/target"
)

// secrets finds what ${NAME} and ${file:/path} stand for.
type secrets struct {
	env       map[string]string
	missingOK bool
	files     map[string]bool
}

func newSecrets(environ []string, missingOK bool) secrets {
	s := secrets{env: map[string]string{}, missingOK: missingOK, files: map[string]bool{}}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			s.env[name] = value
		}
	}
	return s
}

// piece is literal text, or what a reference stands for.
type piece struct {
	text   string
	secret bool
}

// pieces splits text at its references. $${ is a literal ${.
func (b *builder) pieces(key, text string) []piece {
	var out []piece
	for text != "" {
		i := strings.Index(text, "${")
		if i < 0 {
			return append(out, piece{text: text})
		}
		if i > 0 && text[i-1] == '$' {
			out = append(out, piece{text: text[:i-1] + "${"})
			text = text[i+2:]
			continue
		}
		out = append(out, piece{text: text[:i]})
		name, rest, ok := strings.Cut(text[i+2:], "}")
		if !ok {
			b.fault(key, "close it with }, or write $${ for a literal ${", "has a ${ without }")
			return out
		}
		out = append(out, piece{b.secret(key, name), true})
		text = rest
	}
	return out
}

func (b *builder) secret(key, name string) string {
	if path, ok := strings.CutPrefix(name, "file:"); ok {
		b.secrets.files[path] = true
		raw, err := os.ReadFile(path)
		if err != nil && !b.secrets.missingOK {
			b.fault(key, "create the file, or correct the path", "%s cannot be read: %s", path, rootCause(err))
		}
		text := strings.TrimSuffix(string(raw), "\n")
		return strings.TrimSuffix(text, "\r")
	}
	value, ok := b.secrets.env[name]
	if !ok {
		if b.secrets.missingOK {
			return "x"
		}
		b.fault(key, "export it, or put the value in a file and write ${file:/path}", "the environment variable %s is not set", quoted(name))
	}
	return value
}

// expand puts references in.
func (b *builder) expand(key, text string) string {
	var out strings.Builder
	for _, p := range b.pieces(key, text) {
		out.WriteString(p.text)
	}
	return out.String()
}

// marked is text in which each reference is one character, so that it can be
// split before the references are put in: what they stand for is literal.
type marked struct {
	values []string
}

const firstMark = '\U000F0000' // private use: not in any URL

func (b *builder) mark(key, text string) (string, *marked) {
	m := &marked{}
	var out strings.Builder
	for _, p := range b.pieces(key, text) {
		if p.secret {
			out.WriteRune(firstMark + rune(len(m.values)))
			m.values = append(m.values, p.text)
			continue
		}
		out.WriteString(p.text)
	}
	return out.String(), m
}

// put replaces the marks. decode says whether literal text is percent-decoded.
func (m *marked) put(s string, decode bool) (string, bool) {
	var out strings.Builder
	for s != "" {
		i := strings.IndexFunc(s, func(r rune) bool { return r >= firstMark && int(r-firstMark) < len(m.values) })
		lit := s
		if i >= 0 {
			lit = s[:i]
		}
		if decode {
			d, err := url.PathUnescape(lit)
			if err != nil {
				return "", false
			}
			lit = d
		}
		out.WriteString(lit)
		if i < 0 {
			break
		}
		r := []rune(s[i:])[0]
		out.WriteString(m.values[r-firstMark])
		s = s[i+len(string(r)):]
	}
	return out.String(), true
}

var schemes = []Scheme{SchemeDirect, SchemeHTTP, SchemeHTTPS, SchemeSOCKS4, SchemeSOCKS4A, SchemeSOCKS5, SchemeSOCKS5H}

// url reads a proxy's URL. No fault repeats any part of it that may be secret.
func (b *builder) url(key, text string) (URL, bool) {
	if strings.EqualFold(strings.TrimSpace(text), "direct") {
		return URL{Scheme: SchemeDirect}, true
	}
	if strings.HasPrefix(text, "${") && strings.HasSuffix(text, "}") && strings.Count(text, "${") == 1 {
		text = b.expand(key, text) // the whole URL is a secret
		if b.secrets.missingOK && !strings.Contains(text, "://") {
			text = "http://secret.invalid:1"
		}
	}
	s, m := b.mark(key, strings.TrimSpace(text))
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		b.fault(key, "write it as socks5://host:1080 or http://user:password@host:3128", "is not a URL")
		return URL{}, false
	}
	u := URL{Scheme: Scheme(strings.ToLower(scheme))}
	if !u.known() {
		b.fault(key, "use one of http, https, socks4, socks4a, socks5, socks5h, direct"+DidYouMean(scheme, schemeWords()), "unknown scheme %s", quoted(scheme))
		return URL{}, false
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		at := strings.LastIndexByte(rest, '@')
		if at > i { // the password has one of these, unescaped
			b.fault(key, "write / ? # and @ in it as %2F %3F %23 %40, or put the password in a variable", "the user or password has a character that ends the host")
			return URL{}, false
		}
		authority, tail = rest[:i], rest[i:]
	}
	if u.Scheme == SchemeDirect {
		return b.directURL(key, authority, tail)
	}
	if tail != "" && tail != "/" {
		b.fault(key, "end it after the port", "has a path or a query, which a proxy does not take")
		return URL{}, false
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if !b.userinfo(key, &u, authority[:i], m) {
			return URL{}, false
		}
		authority = authority[i+1:]
	}
	authority, _ = m.put(authority, false)
	host, port, err := target.SplitHostPort(authority)
	if err != nil {
		b.fault(key, "write it as "+string(u.Scheme)+"://host:"+u.usualPort(), "needs a host and a port (%s)", err)
		return URL{}, false
	}
	if u.Host, err = target.ParseHost(host); err != nil {
		b.fault(key, "", "%s", err)
		return URL{}, false
	}
	u.Port = port
	if u.Scheme == SchemeSOCKS4 {
		b.warn(key, "use socks4a:// if the proxy can", "socks4 has no names: proxyd resolves the exchange's name on this machine")
	}
	return u, true
}

func (u URL) known() bool {
	for _, s := range schemes {
		if u.Scheme == s {
			return true
		}
	}
	return false
}

func schemeWords() (out []string) {
	for _, s := range schemes {
		out = append(out, string(s))
	}
	return out
}

func (u URL) usualPort() string {
	switch u.Scheme {
	case SchemeHTTP:
		return "3128"
	case SchemeHTTPS:
		return "443"
	}
	return "1080"
}

func (b *builder) userinfo(key string, u *URL, info string, m *marked) bool {
	user, password, _ := strings.Cut(info, ":")
	user, ok1 := m.put(user, true)
	password, ok2 := m.put(password, true)
	if !ok1 || !ok2 {
		b.fault(key, "write a literal % as %25", "the user or password has a percent sign that is not followed by two hex digits")
		return false
	}
	for _, s := range []string{user, password} {
		if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0 {
			b.fault(key, "remove it", "the user or password has a control character (a line end?)")
			return false
		}
	}
	switch {
	case strings.Contains(user, ":") && (u.Scheme == SchemeHTTP || u.Scheme == SchemeHTTPS):
		b.fault(key, "", "the user has a colon, which Basic authentication cannot carry")
		return false
	case len(user) > 255 || len(password) > 255:
		b.fault(key, "", "the user or password is longer than 255 bytes")
		return false
	case u.Scheme == SchemeSOCKS5 || u.Scheme == SchemeSOCKS5H:
		if user == "" {
			b.fault(key, "", "SOCKS5 needs a user beside the password")
			return false
		}
	case (u.Scheme == SchemeSOCKS4 || u.Scheme == SchemeSOCKS4A) && password != "":
		b.fault(key, "remove the password", "SOCKS4 has a user only")
		return false
	}
	u.User, u.Password, u.HasAuth = NewSecret(user), NewSecret(password), true
	return true
}

func (b *builder) directURL(key, authority, tail string) (URL, bool) {
	u := URL{Scheme: SchemeDirect}
	if authority != "" {
		ip, err := netip.ParseAddr(strings.Trim(authority, "[]"))
		if err != nil || ip.Zone() != "" {
			b.fault(key, "write it as direct://203.0.113.10", "%s is not an address of this machine", quoted(authority))
			return URL{}, false
		}
		u.Source = ip.Unmap()
	}
	tail = strings.TrimPrefix(tail, "/")
	if tail == "" {
		return u, true
	}
	q, err := url.ParseQuery(strings.TrimPrefix(tail, "?"))
	u.Interface = q.Get("interface")
	if err != nil || len(q) != 1 || u.Interface == "" || len(u.Interface) > 15 {
		b.fault(key, "write it as direct://?interface=eth1", "has an unknown query")
		return URL{}, false
	}
	return u, true
}

// String is the URL with its credentials masked.
func (u URL) String() string {
	if u.Scheme == SchemeDirect {
		s := "direct"
		if u.Source.IsValid() {
			s += "://" + u.Source.String()
		}
		if u.Interface != "" {
			if !u.Source.IsValid() {
				s += "://"
			}
			s += "?interface=" + u.Interface
		}
		return s
	}
	auth := ""
	if u.HasAuth {
		auth = "***@"
		if !u.Password.IsZero() {
			auth = "***:***@"
		}
	}
	return fmt.Sprintf("%s://%s%s", u.Scheme, auth, u.Authority())
}

// Authority is host:port.
func (u URL) Authority() string {
	if u.Host.IP.Is6() {
		return fmt.Sprintf("[%s]:%d", u.Host.Name, u.Port)
	}
	return fmt.Sprintf("%s:%d", u.Host.Name, u.Port)
}

// MarshalText masks like String.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }
