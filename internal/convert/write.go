package convert

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"proxyd/internal/config"
)

// write returns the configuration as YAML.
func (d *document) write() string {
	d.nameMembers()
	var body strings.Builder
	w := writer{&body, d}
	w.pools()
	w.routes()
	w.defaults()
	var head strings.Builder
	for _, c := range d.head {
		comment(&head, "", c)
	}
	if n := len(d.vars.list); n > 0 {
		comment(&head, "", "It needs the credentials that stand in it as ${NAME}, from the environment or from files (${file:/path}).")
	}
	return head.String() + body.String()
}

type writer struct {
	*strings.Builder
	d *document
}

// comment writes one comment, a line of it at a time.
func comment(out *strings.Builder, indent, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(out, "%s# %s\n", indent, clean(line))
	}
}

func (w writer) pools() {
	if len(w.d.pools) == 0 {
		return
	}
	w.WriteString("\n")
	if slices.ContainsFunc(w.d.pools, func(p *pool) bool { return p.members() > 0 }) {
		w.WriteString("pools:\n")
	}
	for _, p := range w.d.pools {
		for _, n := range p.notes {
			comment(w.Builder, "  ", n)
		}
		if p.members() == 0 {
			for _, e := range p.entries {
				comment(w.Builder, "  ", e.comment)
			}
			continue
		}
		fmt.Fprintf(w, "  %s:\n", scalar(p.name))
		if p.strategy != "" && p.strategy != string(config.RoundRobin) {
			fmt.Fprintf(w, "    strategy: %s\n", p.strategy)
		}
		if p.strategy == string(config.Hash) {
			w.WriteString("    hash_over: host\n")
		}
		if p.via != "" {
			fmt.Fprintf(w, "    via: %s\n", scalar(p.via))
		}
		w.WriteString("    proxies:\n")
		for _, e := range p.entries {
			if e.member == nil {
				comment(w.Builder, "      ", e.comment)
				continue
			}
			fmt.Fprintf(w, "      - %s", w.member(e.member))
			if e.member.note != "" {
				w.WriteString(" # " + clean(e.member.note))
			}
			w.WriteString("\n")
		}
	}
}

// member returns a member as a URL, or as a mapping where more is to be said.
func (w writer) member(m *member) string {
	url := w.url(m)
	var more []string
	put := func(key, value string) {
		if value != "" {
			more = append(more, key+": "+value)
		}
	}
	put("weight", m.weight)
	if m.tier > 1 {
		put("tier", fmt.Sprint(m.tier))
	}
	if m.via != "" {
		put("via", scalar(m.via))
	}
	var tls []string
	if m.server != "" {
		tls = append(tls, "server_name: "+scalar(m.server))
	}
	if m.insecure {
		tls = append(tls, "insecure: true")
	}
	if len(tls) > 0 {
		put("tls", "{"+strings.Join(tls, ", ")+"}")
	}
	if m.most != "" {
		put("limits", "{max_connections: "+m.most+"}")
	}
	if m.name == "" && len(more) == 0 {
		return url
	}
	more = slices.Insert(more, 0, "url: "+url)
	if m.name != "" {
		more = slices.Insert(more, 0, "name: "+scalar(m.name))
	}
	return "{" + strings.Join(more, ", ") + "}"
}

// url returns a URL with references in place of credentials.
func (w writer) url(m *member) string {
	if m.url.Scheme == config.SchemeDirect {
		return scalar(m.url.String())
	}
	auth := ""
	label := m.label
	if label == "" {
		label = m.name
	}
	if m.url.HasAuth && !m.url.User.IsZero() {
		auth = w.d.vars.ref(label, "USER", m.url.User)
	}
	if m.url.HasAuth && !m.url.Password.IsZero() {
		auth += ":" + w.d.vars.ref(label, "PASSWORD", m.url.Password)
	}
	if auth != "" {
		auth += "@"
	}
	return scalar(fmt.Sprintf("%s://%s%s", m.url.Scheme, auth, m.url.Authority()))
}

func (w writer) routes() {
	if len(w.d.routes) == 0 {
		return
	}
	some := slices.ContainsFunc(w.d.routes, func(r route) bool { return r.comment == "" })
	w.WriteString("\n")
	if some {
		w.WriteString("routes:\n")
	}
	for _, r := range w.d.routes {
		if r.comment != "" {
			comment(w.Builder, "  ", r.comment)
			continue
		}
		hosts := make([]string, len(r.hosts))
		for i, h := range r.hosts {
			hosts[i] = scalar(h)
		}
		if len(hosts) <= 4 {
			fmt.Fprintf(w, "  - {hosts: [%s], use: %s}\n", strings.Join(hosts, ", "), scalar(r.use))
			continue
		}
		w.WriteString("  - hosts:\n")
		for _, h := range hosts {
			fmt.Fprintf(w, "      - %s\n", h)
		}
		fmt.Fprintf(w, "    use: %s\n", scalar(r.use))
	}
}

func (w writer) defaults() {
	w.WriteString("\n")
	for _, n := range w.d.defNotes {
		comment(w.Builder, "", n)
	}
	if w.d.defWS != "" && w.d.defWS != w.d.def {
		fmt.Fprintf(w, "default: {http: %s, websocket: %s}\n", scalar(w.d.def), scalar(w.d.defWS))
		return
	}
	fmt.Fprintf(w, "default: %s\n", scalar(w.d.def))
}

var plainScalar = regexp.MustCompile(`^[a-z][a-z0-9._-]*(://[a-z0-9._-]+(:[0-9]+)?)?$`)

// scalar returns text as a YAML scalar for block and flow context.
func scalar(s string) string {
	switch s {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
	default:
		if plainScalar.MatchString(s) {
			return s
		}
	}
	quoted, _ := json.Marshal(s) // cannot fail for a string; a JSON string is a YAML string
	return string(quoted)
}
