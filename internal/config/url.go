package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"proxyd/internal/target"
)

var schemes = []Scheme{SchemeDirect, SchemeHTTP, SchemeHTTPS, SchemeSOCKS4, SchemeSOCKS4A, SchemeSOCKS5, SchemeSOCKS5H}

// url parses a proxy's URL. No error repeats a part of it that may be secret.
func (r *references) url(key, text string) (URL, bool) {
	if strings.EqualFold(strings.TrimSpace(text), "direct") {
		return URL{Scheme: SchemeDirect}, true
	}
	s, m, ok := r.urlText(key, text)
	if !ok {
		return URL{}, false
	}
	scheme, rest, ok := strings.Cut(strings.TrimSpace(s), "://")
	if !ok {
		r.errorf(key, "write it as socks5://host:1080, http://user:password@host:3128 or direct", "is not a URL")
		return URL{}, false
	}
	u := URL{Scheme: Scheme(strings.ToLower(scheme))}
	if !u.known() {
		r.errorf(key, "use one of http, https, socks4, socks4a, socks5, socks5h, direct"+DidYouMean(scheme, schemeWords()), "unknown scheme")
		return URL{}, false
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		at := strings.LastIndexByte(rest, '@')
		if at > i { // the password has one of these, unescaped
			r.errorf(key, "write / ? # and @ in it as %2F %3F %23 %40, or put the password in a variable", "the user or password has a character that ends the host")
			return URL{}, false
		}
		authority, tail = rest[:i], rest[i:]
	}
	if u.Scheme == SchemeDirect {
		return r.directURL(key, authority, tail)
	}
	if tail != "" && tail != "/" {
		r.errorf(key, "end it after the port", "has a path or a query, which a proxy does not take")
		return URL{}, false
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if !r.userinfo(key, &u, authority[:i], m) {
			return URL{}, false
		}
		authority = authority[i+1:]
	}
	authority, _ = m.put(authority, false)
	if !r.hostPort(key, &u, authority) {
		return URL{}, false
	}
	if u.Scheme == SchemeSOCKS4 {
		r.warnf(key, "use socks4a:// if the proxy can", "socks4 has no names: proxyd resolves the exchange's name on this machine")
	}
	return u, true
}

// urlText returns the text of a URL with its references marked.
func (r *references) urlText(key, text string) (string, *marked, bool) {
	before := len(r.errs)
	whole := strings.HasPrefix(text, "${") && strings.HasSuffix(text, "}") && strings.Count(text, "${") == 1
	if whole {
		text = r.expand(key, text) // the whole URL is a secret
		if r.missingOK && !strings.Contains(text, "://") {
			text = "http://secret.invalid:1"
		}
	}
	s, m := text, &marked{whole: true}
	if !whole { // what a reference stands for is literal, so it has none of its own
		s, m = r.mark(key, text)
	}
	if len(r.errs) > before { // of the references: what is left of the URL says nothing
		return "", nil, false
	}
	if hasControl(s) {
		r.errorf(key, "remove it", "has a control character (a line end?)")
		return "", nil, false
	}
	return s, m, true
}

// hostPort parses what follows the userinfo.
func (r *references) hostPort(key string, u *URL, authority string) bool {
	host, port, err := target.SplitHostPort(authority)
	if err == nil {
		u.Host, err = target.ParseHost(host)
	}
	switch {
	case strings.Count(authority, ":") > 1 && authority[0] != '[': // not quoted: in many lists the last two are secrets
		r.errorf(key, "write user and password before the host, "+string(u.Scheme)+"://user:password@host:"+u.usualPort()+", and an IPv6 address in brackets", "has too many colons behind its host")
		return false
	case err == nil:
	case host == "":
		r.errorf(key, "write it as "+string(u.Scheme)+"://host:"+u.usualPort(), "needs a host and a port (%s)", target.Reason(err))
		return false
	default:
		r.errorf(key, "", "%s", target.Reason(err))
		return false
	}
	u.Port = port
	return true
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

func (r *references) userinfo(key string, u *URL, info string, m *marked) bool {
	user, password, _ := strings.Cut(info, ":")
	if password != "" && !m.whole && !m.in(password) {
		r.noteLiteral(key)
	}
	user, ok1 := m.put(user, true)
	password, ok2 := m.put(password, true)
	if !ok1 || !ok2 {
		r.errorf(key, "write a literal % as %25", "the user or password has a percent sign that is not followed by two hex digits")
		return false
	}
	for _, s := range []string{user, password} {
		if hasControl(s) {
			r.errorf(key, "remove it", "the user or password has a control character (a line end?)")
			return false
		}
	}
	switch {
	case strings.Contains(user, ":") && (u.Scheme == SchemeHTTP || u.Scheme == SchemeHTTPS):
		r.errorf(key, "", "the user has a colon, which Basic authentication cannot carry")
		return false
	case len(user) > 255 || len(password) > 255:
		r.errorf(key, "", "the user or password is longer than 255 bytes")
		return false
	case u.Scheme == SchemeSOCKS5 || u.Scheme == SchemeSOCKS5H:
		if user == "" {
			r.errorf(key, "", "SOCKS5 needs a user beside the password")
			return false
		}
	case (u.Scheme == SchemeSOCKS4 || u.Scheme == SchemeSOCKS4A) && password != "":
		r.errorf(key, "remove the password", "SOCKS4 has a user only")
		return false
	}
	u.User, u.Password, u.HasAuth = NewSecret(user), NewSecret(password), true
	return true
}

func (r *references) directURL(key, authority, tail string) (URL, bool) {
	u := URL{Scheme: SchemeDirect}
	if authority != "" {
		ip, err := netip.ParseAddr(strings.Trim(authority, "[]"))
		if err != nil || ip.Zone() != "" {
			r.errorf(key, "write it as direct://203.0.113.10", "names no address of this machine")
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
		r.errorf(key, "remove it", "has a control character (a line end?)")
		return URL{}, false
	}
	if err != nil || len(q) != 1 || u.Interface == "" || len(u.Interface) > 15 {
		r.errorf(key, "write it as direct://?interface=eth1", "has an unknown query")
		return URL{}, false
	}
	return u, true
}

// String returns the URL with its credentials masked.
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

// Authority returns host:port.
func (u URL) Authority() string {
	if u.Host.IP.Is6() {
		return fmt.Sprintf("[%s]:%d", u.Host.Name, u.Port)
	}
	return fmt.Sprintf("%s:%d", u.Host.Name, u.Port)
}

// MarshalText masks like String.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// redisURL returns the URL of a Redis, and the same with what may be secret masked. No
// error repeats a part of it.
func (b *builder) redisURL(key, text string) (address Secret, shown string) {
	before := len(b.errs)
	parts := b.pieces(key, text)
	if len(b.errs) > before {
		return Secret{}, ""
	}
	var whole strings.Builder
	for _, p := range parts {
		switch {
		case !p.secret, len(parts) == 1:
			whole.WriteString(p.text)
		default:
			whole.WriteString(strings.ReplaceAll(url.QueryEscape(p.text), "+", "%20"))
		}
	}
	s := strings.TrimSpace(whole.String())
	if b.missingOK && len(parts) == 1 && parts[0].secret {
		s = "redis://secret.invalid"
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || hasControl(s):
		b.errorf(key, "write it as redis://:${REDIS_PASSWORD}@HOST:6379", "is not the URL of a Redis")
		return Secret{}, ""
	case u.Scheme != "redis" && u.Scheme != "rediss":
		b.errorf(key, "use redis://, or rediss:// with TLS; see docs/fleet.md for Sentinel and Cluster", "must begin with redis:// or rediss://")
		return Secret{}, ""
	case u.Fragment != "":
		b.errorf(key, "write # as %23 in a password", "has a # in it")
		return Secret{}, ""
	}
	if !b.redisParts(key, u) {
		return Secret{}, ""
	}
	if password, ok := u.User.Password(); ok && password != "" && len(parts) == 1 && !parts[0].secret {
		b.noteLiteral(key)
	}
	return NewSecret(s), maskedRedis(u)
}

// redisParts refuses the parts of the URL of a Redis that mean nothing there, and
// reports whether there are none.
func (b *builder) redisParts(key string, u *url.URL) bool {
	query, err := url.ParseQuery(u.RawQuery)
	sentinel, cluster := query.Has("master_name"), query.Has("addr") && !query.Has("master_name")
	database := strings.TrimPrefix(u.Path, "/")
	switch {
	case err != nil:
		b.errorf(key, "write & between the parameters, and % as %25 in a password", "has parameters that cannot be read")
		return false
	case !validPort(u.Host):
		b.errorf(key, "use a port from 1 to 65535", "has a port that is none")
		return false
	case sentinel && query.Get("master_name") == "":
		b.errorf(key, "give master_name the name that the sentinels watch it by", "names no master")
		return false
	case cluster && (database != "" || query.Has("db")):
		b.errorf(key, "remove the database: a Cluster has one only", "names a database of a Cluster")
		return false
	case !digits(database) || !digits(query.Get("db")):
		b.errorf(key, "write the number of the database as the path, such as /2, or no path", "has a path that is no number of a database")
		return false
	}
	for name, values := range query {
		switch known := name == "master_name" || name == "addr" || name == "db"; {
		case name == "addr" && slices.ContainsFunc(values, func(v string) bool { return !validPort(v) || strings.HasPrefix(v, ":") }):
			b.errorf(key, "write each as addr=HOST:PORT", "has an addr that is no host and port")
			return false
		case !known && (!sentinel || name != "username" && name != "password"):
			b.errorf(key, "see docs/fleet.md for the forms of the URL", "has a parameter that this form of the URL does not have")
			return false
		}
	}
	return true
}

// validPort reports whether the port of an address, if it has one, is one.
func validPort(address string) bool {
	i := strings.LastIndexByte(address, ':')
	if i < 0 || strings.HasSuffix(address, "]") {
		return true
	}
	port, err := strconv.ParseUint(address[i+1:], 10, 16)
	return err == nil && port > 0
}

// digits reports whether s is a small number, or empty.
func digits(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil
}

// maskedRedis returns a URL without its credentials.
func maskedRedis(u *url.URL) string {
	shown := u.Scheme + "://"
	if u.User != nil {
		shown += "***@"
	}
	shown += u.Host + u.EscapedPath()
	for i, part := range strings.Split(u.RawQuery, "&") {
		name, value, _ := strings.Cut(part, "=")
		if name == "" {
			continue
		}
		if name != "master_name" && name != "addr" && name != "db" && value != "" {
			part = name + "=***"
		}
		shown += map[bool]string{true: "?", false: "&"}[i == 0] + part
	}
	return shown
}
