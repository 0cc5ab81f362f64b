package convert

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"proxyd/internal/config"
	"proxyd/internal/proxylist"
)

// document is the configuration that is being made.
type document struct {
	source   string // what it is made from
	head     []string
	pools    []*pool
	routes   []route
	def      string // an outbound; "" writes none
	defWS    string // that of websockets, if it is another
	defNotes []string
	losses   []Loss
	lost     map[Loss]bool
	notes    []string
	vars     variables
	names    taken // of pools
	members  taken // of members
}

// pool is a set of members, with comments in between.
type pool struct {
	doc      *document
	name     string
	notes    []string // above it
	strategy string   // "" for round_robin
	via      string
	entries  []entry
}

// entry is a member or a comment.
type entry struct {
	member  *member
	comment string
}

// member is one proxy of a pool.
type member struct {
	name     string // "" for its host:port
	label    string // of its variables; "" for the name
	url      config.URL
	via      string
	weight   string
	tier     int
	insecure bool
	server   string // of TLS
	most     string // connections at once
	note     string
}

// route is an entry of routes, or a comment.
type route struct {
	hosts   []string
	use     string
	comment string
}

func newDocument(s Source, kind proxylist.Kind) *document {
	d := &document{lost: map[Loss]bool{}, names: taken{"direct": 1, "reject": 1}, members: taken{}, vars: newVariables()}
	d.source = clean(s.Name)
	d.head = []string{fmt.Sprintf("Made by proxyd import from %s (%s).", d.source, kind)}
	return d
}

// maxComment is how much of a source's text a comment repeats, in characters.
const maxComment = 300

// clean makes text of a source fit for a comment, and for a terminal: no control
// characters, none that change the direction of text, one line.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > maxComment {
		s = string(runes[:maxComment]) + "..."
	}
	return strings.TrimSpace(s)
}

// lose notes a loss once, and returns the comment that stands in its place.
func (d *document) lose(line int, format string, args ...any) string {
	l := Loss{line, clean(fmt.Sprintf(format, args...))}
	if !d.lost[l] {
		d.lost[l] = true
		d.losses = append(d.losses, l)
	}
	return "not carried over: " + l.String()
}

// note adds a note once.
func (d *document) note(format string, args ...any) {
	if s := clean(fmt.Sprintf(format, args...)); !slices.Contains(d.notes, s) {
		d.notes = append(d.notes, s)
	}
}

// newPool adds a pool that is called like source, or nearly so.
func (d *document) newPool(source, strategy string) *pool {
	p := &pool{doc: d, name: d.names.free(source, "pool"), strategy: strategy}
	d.pools = append(d.pools, p)
	return p
}

// poolComment adds a comment among the pools.
func (d *document) poolComment(s string) {
	d.pools = append(d.pools, &pool{doc: d, notes: []string{s}})
}

// taken are the names that are in use, and how many names each has led to.
type taken map[string]int

// free returns a name that is like source and not taken, and takes it: letters and
// digits with single separators between them; base if nothing of source is left.
func (t taken) free(source, base string) string {
	name := strings.Trim(notName.ReplaceAllString(strings.ToLower(source), "-"), "-._")
	name = separators.ReplaceAllStringFunc(name, func(s string) string { return s[:1] })
	if name == "" {
		name = base
	}
	free := name
	for t[free] > 0 {
		t[name]++
		free = fmt.Sprintf("%s-%d", name, t[name])
	}
	t[free] = 1
	return free
}

var (
	notName    = regexp.MustCompile(`[^a-z0-9._-]+`)
	separators = regexp.MustCompile(`[._-]{2,}`)
)

func (p *pool) add(m member)     { p.entries = append(p.entries, entry{member: &m}) }
func (p *pool) comment(s string) { p.entries = append(p.entries, entry{comment: s}) }
func (p *pool) members() int     { return len(p.proxies()) }

// proxies returns the members.
func (p *pool) proxies() (list []*member) {
	for _, e := range p.entries {
		if e.member != nil {
			list = append(list, e.member)
		}
	}
	return list
}

// route adds hosts to the last route, if it leads to the same outbound, or begins
// another.
func (d *document) route(use string, hosts ...string) {
	if n := len(d.routes); n > 0 && d.routes[n-1].comment == "" && d.routes[n-1].use == use {
		d.routes[n-1].hosts = append(d.routes[n-1].hosts, hosts...)
		return
	}
	d.routes = append(d.routes, route{hosts: hosts, use: use})
}

func (d *document) routeComment(s string) { d.routes = append(d.routes, route{comment: s}) }
