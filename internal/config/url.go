package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"proxyd/internal/target"
)

var schemes = []Scheme{SchemeDirect, SchemeHTTP, SchemeHTTPS, SchemeSOCKS4, SchemeSOCKS4A, SchemeSOCKS5, SchemeSOCKS5H}

// url reads a proxy's URL. No fault repeats any part of it that may be secret.
func (b *builder) url(key, text string) (URL, bool) {
	if strings.EqualFold(strings.TrimSpace(text), "direct") {
		return URL{Scheme: SchemeDirect}, true
	}
	before := len(b.errs)
	whole := strings.HasPrefix(text, "${") && strings.HasSuffix(text, "}") && strings.Count(text, "${") == 1
	if whole {
		text = b.expand(key, text) // the whole URL is a secret
		if b.secrets.missingOK && !strings.Contains(text, "://") {
			text = "http://secret.invalid:1"
		}
	}
	s, m := text, &marked{whole: true}
	if !whole { // what a reference stands for is literal, so it has none of its own
		s, m = b.mark(key, text)
	}
	if len(b.errs) > before { // of the references: what is left of the URL says nothing
		return URL{}, false
	}
	if hasControl(s) {
		b.errorf(key, "remove it", "has a control character (a line end?)")
		return URL{}, false
	}
	scheme, rest, ok := strings.Cut(strings.TrimSpace(s), "://")
	if !ok {
		b.errorf(key, "write it as socks5://host:1080, http://user:password@host:3128 or direct", "is not a URL")
		return URL{}, false
	}
	u := URL{Scheme: Scheme(strings.ToLower(scheme))}
	if !u.known() {
		b.errorf(key, "use one of http, https, socks4, socks4a, socks5, socks5h, direct"+DidYouMean(scheme, schemeWords()), "unknown scheme")
		return URL{}, false
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		at := strings.LastIndexByte(rest, '@')
		if at > i { // the password has one of these, unescaped
			b.errorf(key, "write / ? # and @ in it as %2F %3F %23 %40, or put the password in a variable", "the user or password has a character that ends the host")
			return URL{}, false
		}
		authority, tail = rest[:i], rest[i:]
	}
	if u.Scheme == SchemeDirect {
		return b.directURL(key, authority, tail)
	}
	if tail != "" && tail != "/" {
		b.errorf(key, "end it after the port", "has a path or a query, which a proxy does not take")
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
	if err == nil {
		u.Host, err = target.ParseHost(host)
	}
	switch {
	case strings.Count(authority, ":") > 1 && authority[0] != '[': // not quoted: in many lists the last two are secrets
		b.errorf(key, "write user and password before the host, "+string(u.Scheme)+"://user:password@host:"+u.usualPort()+", and an IPv6 address in brackets", "has too many colons behind its host")
		return URL{}, false
	case err == nil:
	case host == "":
		b.errorf(key, "write it as "+string(u.Scheme)+"://host:"+u.usualPort(), "needs a host and a port (%s)", target.Reason(err))
		return URL{}, false
	default:
		b.errorf(key, "", "%s", target.Reason(err))
		return URL{}, false
	}
	u.Port = port
	if u.Scheme == SchemeSOCKS4 {
		b.warnf(key, "use socks4a:// if the proxy can", "socks4 has no names: proxyd resolves the exchange's name on this machine")
	}
	return u, true
}

func hasControl(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0
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
	if password != "" && !m.whole && !m.in(password) {
		b.noteLiteral(key)
	}
	user, ok1 := m.put(user, true)
	password, ok2 := m.put(password, true)
	if !ok1 || !ok2 {
		b.errorf(key, "write a literal % as %25", "the user or password has a percent sign that is not followed by two hex digits")
		return false
	}
	for _, s := range []string{user, password} {
		if hasControl(s) {
			b.errorf(key, "remove it", "the user or password has a control character (a line end?)")
			return false
		}
	}
	switch {
	case strings.Contains(user, ":") && (u.Scheme == SchemeHTTP || u.Scheme == SchemeHTTPS):
		b.errorf(key, "", "the user has a colon, which Basic authentication cannot carry")
		return false
	case len(user) > 255 || len(password) > 255:
		b.errorf(key, "", "the user or password is longer than 255 bytes")
		return false
	case u.Scheme == SchemeSOCKS5 || u.Scheme == SchemeSOCKS5H:
		if user == "" {
			b.errorf(key, "", "SOCKS5 needs a user beside the password")
			return false
		}
	case (u.Scheme == SchemeSOCKS4 || u.Scheme == SchemeSOCKS4A) && password != "":
		b.errorf(key, "remove the password", "SOCKS4 has a user only")
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
			b.errorf(key, "write it as direct://203.0.113.10", "names no address of this machine")
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
	if hasControl(u.Interface) {
		b.errorf(key, "remove it", "has a control character (a line end?)")
		return URL{}, false
	}
	if err != nil || len(q) != 1 || u.Interface == "" || len(u.Interface) > 15 {
		b.errorf(key, "write it as direct://?interface=eth1", "has an unknown query")
		return URL{}, false
	}
	return u, true
}

// String is the URL with its credentials masked.
func (u URL) String() string {
	if u.Scheme == SchemeDirect {
		s := "direct"
		if u.Source.IsValid() {
			host := u.Source.String()
			if u.Source.Is6() {
				host = "[" + host + "]"
			}
			s += "://" + host
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
