package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"proxyd/internal/config/internal/raw"
	"proxyd/internal/target"
)

const defaultRefresh = 300.0 // seconds

// Sources returns the lists from URLs, in the order of the pools, each once.
func (c *Config) Sources() (list []*ListSource) {
	for i := range c.Pools {
		if s := c.Pools[i].Source; s != nil && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// ListText is the text of a list, and the proxies in it. It does not change.
type ListText struct {
	Text   []byte
	scheme Scheme // with which it was read
	lines  proxyLines
}

// Proxies returns how many proxies the list has.
func (t *ListText) Proxies() int { return len(t.lines.proxies) }

// Read reads a text as the list of s. The error says why it is not to be applied, and
// repeats no text that may be secret.
func (s *ListSource) Read(text []byte) (*ListText, error) {
	t := &ListText{Text: text, scheme: s.Scheme}
	if isMarkup(text) {
		return t, errors.New("the answer is a page of HTML or XML, not a list")
	}
	t.lines = readList(s.Shown, text, s.Scheme, true)
	return t, s.judge(t.lines)
}

// judge returns why the lines of a list are not to be applied, nil if they may be.
func (s *ListSource) judge(l proxyLines) error {
	switch n := len(l.proxies); {
	case len(l.errs) > 0 && len(l.errs) > n:
		return fmt.Errorf("more lines of the list are wrong than right (%d to %d): line %d %s", len(l.errs), n, l.errs[0].Line, l.errs[0].Message)
	case n == 0:
		return errors.New("the list is empty")
	case n > s.Max:
		return fmt.Errorf("the list has more than %d proxies (max)", s.Max)
	}
	return nil
}

// isMarkup reports whether a text begins as a page does.
func isMarkup(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff"))), []byte("<"))
}

// listFromURL adds the members of a list that comes from a URL, as far as its text is known.
func (b *builder) listFromURL(key string, r raw.Pool, p *Pool) {
	at := key + ".list"
	s := &ListSource{
		Name: strings.TrimSuffix(strings.TrimPrefix(key, "pools."), ".pool"), Dir: b.stateDir, Scheme: p.Scheme, Via: b.via(at+".via", r.List.Via),
		Refresh: b.seconds(at+".refresh_seconds", r.List.RefreshSeconds, defaultRefresh, 10, 7*86400), Max: b.whole(at+".max", r.List.Max, maxListed, 1, maxListed),
	}
	if r.List.Via != nil && s.Via == nil { // an error
		return
	}
	if r.List.Scheme != nil {
		if s.Scheme = Scheme(*r.List.Scheme); r.Scheme != nil {
			b.errorf(at+".scheme", "keep one of the two", "is set for the pool too")
		}
		p.Scheme = s.Scheme
	}
	if r.List.From == nil {
		b.missingf(at, "add from: https://provider.example/list, or write list: FILE", "names no URL")
		return
	}
	if !b.listURL(at+".from", *r.List.From, s) {
		return
	}
	b.sources[s] = at
	p.Source, p.List, p.NoList = s, s.Shown, true
	if b.listText == nil {
		return
	}
	t := b.listText(s)
	if t == nil {
		return
	}
	if t.scheme != s.Scheme {
		t, _ = s.Read(t.Text)
	}
	l := t.lines
	if err := s.judge(l); err != nil { // of a list that was fetched for another scheme or max, or that is kept
		b.warnf(at, "it is fetched again", "the list that is known from %s is not used: %s", s.Shown, err)
		return
	}
	b.warnOfList(at, l)
	p.NoList, p.Proxies = false, append(p.Proxies, beside(p.Proxies, l.proxies)...)
}

// listURL reads the URL of a list, and reports whether it is one. No error repeats a part
// of it that may be secret.
func (b *builder) listURL(key, text string, s *ListSource) bool {
	const hint = "write it as https://provider.example/list?key=${NAME}"
	if text == "" {
		b.errorf(key, hint, "is empty")
		return false
	}
	marks, m, ok := b.urlText(key, strings.TrimSpace(text))
	if !ok {
		return false
	}
	var whole strings.Builder
	for _, c := range marks { // what a reference stands for is literal
		if m.is(c) {
			whole.WriteString(strings.ReplaceAll(url.QueryEscape(m.values[c-firstMark]), "+", "%20"))
		} else {
			whole.WriteRune(c)
		}
	}
	u, err := url.Parse(whole.String())
	switch {
	case err != nil || u.Opaque != "":
		b.errorf(key, hint, "is not the address of a list")
		return false
	case u.Scheme != "http" && u.Scheme != "https":
		b.errorf(key, hint, "must begin with https:// or http://")
		return false
	case u.Fragment != "":
		b.errorf(key, hint, "has a # in it, which is never sent")
		return false
	}
	host, err := target.ParseHost(strings.Trim(u.Hostname(), "[]"))
	if err != nil {
		b.errorf(key, hint, "has no host that a list could come from")
		return false
	}
	if port := u.Port(); port != "" {
		if _, _, err := target.SplitHostPort("h:" + port); err != nil {
			b.errorf(key, hint, "has a port out of range")
			return false
		}
	}
	if host.IsIP() && host.IP.IsLinkLocalUnicast() {
		b.errorf(key, "name the provider's address", "is a link-local address, which lists never come from")
		return false
	}
	if _, set := u.User.Password(); set && !strings.Contains(text, "${") {
		b.noteLiteral(key)
	}
	if u.Scheme == "http" && !(host.IsIP() && host.IP.IsLoopback()) {
		b.warnf(key, "use https:// if the provider can", "the list comes unencrypted: anyone on the path can read and change which proxies are used")
	}
	s.URL, s.Shown = NewSecret(u.String()), u.Scheme+"://"+u.Host
	if tail := u.EscapedPath(); u.User != nil || tail != "" && tail != "/" || u.RawQuery != "" {
		s.Shown += "/***"
	}
	return true
}

// routeFetches sets how lists are fetched that do not say so: directly, where all else
// goes direct too.
func (b *builder) routeFetches(c *Config) {
	direct := func(w *Outbound) bool { return w == nil || w.Action == Direct }
	for _, s := range c.Sources() {
		key := b.sources[s]
		switch {
		case s.Via == nil && direct(c.Default.HTTP) && direct(c.Default.Websocket):
			s.Via = &Outbound{Action: Direct, Timeout: toDuration(defaultTimeout), Source: key + ".via"}
		case s.Via == nil:
			b.missingf(key, "write via: direct if the list may be fetched from this machine, or name a pool", "says not how the list is fetched, and default is not direct")
		}
	}
}

// refuseListCycles refuses a list that is fetched through a pool which needs that list.
func (b *builder) refuseListCycles(c *Config) {
	table := poolsByName(c.Pools)
	for i := range c.Pools {
		of := &c.Pools[i]
		if of.Source == nil || of.Source.Via == nil || table[of.Source.Via.Pool] == nil {
			continue
		}
		seen := map[*Pool]bool{}
		var needs func(p *Pool) bool // reports whether p needs the list
		needs = func(p *Pool) bool {
			if p == nil || seen[p] {
				return false
			}
			seen[p] = true
			names := b.hops(p)
			if p.Source != nil && p.Source.Via != nil {
				names = append(names, p.Source.Via.Pool)
			}
			return p == of || slices.ContainsFunc(names, func(name string) bool { return needs(table[name]) })
		}
		if via := of.Source.Via.Pool; needs(table[via]) {
			b.errorf(b.sources[of.Source]+".via", "name another pool, or write via: direct", "the list cannot be fetched through %s, which needs it", via)
		}
	}
}

// stateDirectory returns where lists are kept, "" for nowhere.
func (b *builder) stateDirectory(path *string) string {
	if path == nil {
		dir, _, _ := strings.Cut(b.env["STATE_DIRECTORY"], ":") // systemd may name several
		return dir
	}
	if written := cmp.Or(b.relative[*path], *path); written != "" && filePath(written) != written {
		b.errorf("state_dir", "write it as /var/lib/proxyd, or as ./state", "is not the path of a directory")
		return ""
	}
	return *path
}

// list puts a pool's list, and how many members it has given.
func (p printer) list(o *object, q *Pool, listed int) {
	s := q.Source
	if s == nil {
		o.put("list", q.List).put("scheme", string(q.Scheme))
		o.n.Content[len(o.n.Content)-3].LineComment = listText(listed) // behind the path
		return
	}
	x := newObject().put("from", s.Shown)
	x.n.Content[1].LineComment = listText(listed)
	if q.NoList {
		x.n.Content[1].LineComment = "not known yet"
	}
	if s.Via != nil {
		x.put("via", p.outbound(s.Via))
	}
	o.put("list", x.put("scheme", string(s.Scheme)).put("refresh_seconds", secs(s.Refresh)).put("max", s.Max))
}
