package convert

import (
	"bytes"
	"regexp"
	"strings"

	"proxyd/internal/config"
	"proxyd/internal/target"
)

// variable is a line of a .env file, or of what env prints.
type envVariable struct {
	line  int
	name  string // upper case
	value string
}

var envLine = regexp.MustCompile(`^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)

// proxyVariables returns the variables whose names end in _PROXY, the last of each
// name. A name in lower case wins over upper case, as it does in curl.
func proxyVariables(text []byte) (list []envVariable) {
	at := map[string]int{}
	lower := map[string]bool{}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		m := envLine.FindStringSubmatch(strings.TrimRight(string(line), "\r\n"))
		if m == nil || !strings.HasSuffix(strings.ToUpper(m[1]), "_PROXY") {
			continue
		}
		v := envVariable{n, strings.ToUpper(m[1]), unquote(m[2])}
		i, known := at[v.name]
		isLower := m[1] == strings.ToLower(m[1])
		switch {
		case !known:
			at[v.name], list = len(list), append(list, v)
		case lower[v.name] && !isLower:
			continue
		default:
			list[i] = v
		}
		lower[v.name] = isLower
	}
	return list
}

// unquote returns the value of a variable without its quotes and comment.
func unquote(s string) string {
	s = strings.TrimSpace(s)
	if s != "" && (s[0] == '"' || s[0] == '\'') {
		if end := strings.IndexByte(s[1:], s[0]); end >= 0 {
			return s[1 : end+1]
		}
	}
	if i := strings.Index(s, " #"); i >= 0 {
		s = s[:i]
	}
	return strings.TrimSpace(s)
}

// environment makes pools of the variables whose names end in _PROXY: what
// HTTPS_PROXY leads to is the default, as is that of websockets if WSS_PROXY or
// WS_PROXY leads elsewhere. Of the rest, each is a pool of its own; without
// HTTPS_PROXY and its like all are one pool.
func (d *document) environment(s Source) error {
	byName, lines := map[string]config.URL{}, map[string]int{}
	var names []string
	var no *envVariable
	for _, v := range proxyVariables(s.Text) {
		switch {
		case v.name == "NO_PROXY":
			no = &v
			continue
		case v.value == "", strings.HasPrefix(v.name, "CRYPTOFEED_"), strings.HasPrefix(v.name, "PROXYD_"):
			continue
		case strings.Contains(v.value, "${"):
			d.poolComment(d.lose(v.line, "%s refers to another variable: write its value", v.name))
			continue
		}
		text := v.value
		if !strings.Contains(text, "://") {
			text = "http://" + text // as curl reads it
		}
		u, why := parseURL(strings.TrimSuffix(text, "/"))
		if why != "" {
			d.poolComment(d.lose(v.line, "%s %s", v.name, why))
			continue
		}
		byName[v.name], lines[v.name] = u, v.line
		names = append(names, v.name)
	}
	if len(names) == 0 {
		return errNothing(d.source, d.losses)
	}
	d.defaultOf(names, byName, lines)
	if no != nil {
		d.noProxy(*no)
	}
	return nil
}

// defaultOf makes the pools, and chooses the default among them.
func (d *document) defaultOf(names []string, byName map[string]config.URL, lines map[string]int) {
	first := func(list ...string) string {
		for _, n := range list {
			if _, ok := byName[n]; ok {
				return n
			}
		}
		return ""
	}
	main := first("HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY", "WSS_PROXY", "WS_PROXY")
	if main == "" {
		p := d.newPool("proxies", "")
		for _, n := range names {
			p.add(member{url: byName[n], label: strings.TrimSuffix(n, "_PROXY")})
		}
		d.def = p.name
		return
	}
	pools := map[config.URL]*pool{}
	poolOf := func(n, called string) string {
		u := byName[n]
		if pools[u] == nil {
			pools[u] = d.newPool(called, "")
			pools[u].notes = append(pools[u].notes, "from "+n)
			pools[u].add(member{url: u})
		}
		return pools[u].name
	}
	d.def = poolOf(main, "proxy")
	if ws := first("WSS_PROXY", "WS_PROXY"); ws != "" {
		d.defWS = poolOf(ws, "websocket")
	}
	for _, n := range names {
		switch n {
		case main, "WSS_PROXY":
		case "HTTP_PROXY", "ALL_PROXY", "WS_PROXY":
			if pools[byName[n]] == nil {
				d.defNotes = append(d.defNotes, d.lose(lines[n], "%s leads elsewhere than %s: proxyd does not tell http:// from https:// targets", n, main))
			}
		default:
			poolOf(n, strings.TrimSuffix(n, "_PROXY"))
		}
	}
}

// noProxy makes a route of NO_PROXY. Names stand for what is below them too. What is
// this machine's is left out: clients reach it themselves.
func (d *document) noProxy(v envVariable) {
	var hosts []string
	for word := range strings.FieldsFuncSeq(v.value, func(r rune) bool { return r == ',' || r == ' ' }) {
		name := strings.TrimPrefix(strings.TrimPrefix(word, "*"), ".")
		p, err := target.ParsePattern(name)
		switch {
		case word == "*":
			d.routeComment(d.lose(v.line, "NO_PROXY=* : nothing would use the proxy"))
			continue
		case err != nil || p.Kind == target.Wildcard:
			d.routeComment(d.lose(v.line, "an entry of NO_PROXY is no name and no address"))
			continue
		case p.Kind == target.CIDR && (p.Prefix.Addr().IsLoopback() || p.Prefix.Addr().IsLinkLocalUnicast()), name == "localhost":
			continue
		case p.Kind == target.CIDR:
			hosts = append(hosts, name)
		default:
			hosts = append(hosts, name, "*."+name)
		}
	}
	if len(hosts) > 0 {
		d.route("direct", hosts...)
	}
}
