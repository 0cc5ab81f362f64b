package proxylist

import (
	"encoding/csv"
	"slices"
	"strings"
)

// table is the header of a CSV file: where its columns are, -1 for none.
type table struct {
	comma                                   rune
	url, host, port, user, password, scheme int
}

// columns are the names that providers give to columns, in lower case and without
// separators.
var columns = map[string][]string{
	"url":      {"url", "proxyurl"},
	"host":     {"ip", "host", "hostname", "address", "ipaddress", "proxyaddress", "proxyhost", "proxyip", "server", "proxy"},
	"port":     {"port", "proxyport"},
	"user":     {"user", "username", "login", "proxyuser", "proxyusername", "proxylogin"},
	"password": {"password", "pass", "pwd", "proxypassword", "proxypass"},
	"scheme":   {"protocol", "protocols", "scheme", "type", "proxytype"},
}

// csvHeader reports whether a line is the header of a CSV file that has a column of
// hosts or URLs.
func csvHeader(s string) (table, bool) {
	for _, comma := range ",;\t" {
		fields, ok := csvFields(s, comma)
		if !ok || len(fields) < 2 {
			continue
		}
		for i, f := range fields {
			fields[i] = fillers.Replace(strings.ToLower(f))
		}
		t := table{comma: comma}
		for name, at := range map[string]*int{"url": &t.url, "host": &t.host, "port": &t.port, "user": &t.user, "password": &t.password, "scheme": &t.scheme} {
			*at = column(fields, columns[name])
		}
		if t.url >= 0 || t.host >= 0 {
			return t, true
		}
	}
	return table{}, false
}

// fillers are left out where names of columns are compared.
var fillers = strings.NewReplacer(" ", "", "_", "", "-", "")

// column returns the index of the first of names that a header has; -1 for none.
func column(header, names []string) int {
	for _, name := range names {
		if i := slices.Index(header, name); i >= 0 {
			return i
		}
	}
	return -1
}

func csvFields(s string, comma rune) ([]string, bool) {
	r := csv.NewReader(strings.NewReader(s))
	r.Comma, r.FieldsPerRecord, r.TrimLeadingSpace = comma, -1, true
	fields, err := r.Read()
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	return fields, err == nil
}

const csvForm = "CSV with a header"

func (t table) parse(lines []line, scheme string) List {
	l := List{Form: csvForm}
	for _, s := range lines {
		fields, ok := csvFields(s.text, t.comma)
		if !ok {
			l.Problems = append(l.Problems, Problem{s.number, "is no line of a CSV file", "see that its quotes are closed"})
			continue
		}
		p, why := t.parts(fields)
		if why != "" {
			l.Problems = append(l.Problems, Problem{s.number, why, "the header says which column holds what"})
			continue
		}
		if p.url == "" && p.scheme == "" {
			l.SchemeLess = true
		}
		l.Entries = append(l.Entries, Entry{s.number, p.text(scheme)})
	}
	return l
}

// parts returns what a row names, or why it names no proxy.
func (t table) parts(fields []string) (p parts, why string) {
	get := func(i int) string {
		if i < 0 || i >= len(fields) {
			return ""
		}
		return fields[i]
	}
	address := get(t.url)
	if address == "" {
		address = get(t.host)
	}
	var ok bool
	switch port := get(t.port); {
	case address == "":
		return p, "has no host"
	case schemeText.MatchString(address):
		p, ok = splitURL(address)
	case strings.Contains(address, "@"):
		p, ok = splitAt(address)
	case t.port >= 0 && strings.Count(address, ":") > 1 && address[0] != '[':
		p, ok = splitHostPort("[" + address + "]:" + port)
	case t.port >= 0:
		p, ok = splitHostPort(address + ":" + port)
	default:
		p, ok = splitHostPort(address)
	}
	if !ok {
		return p, "has no host with a port"
	}
	if p.url != "" {
		return p, ""
	}
	if user := get(t.user); user != "" {
		p.user, p.password, p.auth = user, get(t.password), true
	}
	p.scheme = bestScheme(get(t.scheme))
	return p, ""
}

// bestScheme returns the first scheme of a field such as "http, socks5" that is
// preferred; the field itself if it holds none that is known.
func bestScheme(field string) string {
	field = strings.ToLower(field)
	words := strings.FieldsFunc(field, func(r rune) bool { return strings.ContainsRune(" ,;/|[]'\"", r) })
	for _, s := range []string{"socks5", "socks5h", "http", "https", "socks4a", "socks4"} {
		for _, w := range words {
			if w == s {
				return s
			}
		}
	}
	return field
}
