package admin

import (
	"fmt"
	"html"
	"strconv"
	"strings"
	"time"

	"proxyd/internal/feed"
	"proxyd/internal/printable"
)

// markup builds HTML. It is no template of the standard library, since with one the
// linker keeps every exported method of the program, which are several megabytes.
type markup struct{ strings.Builder }

// trusted is text that is HTML already.
type trusted string

// add appends format; each of args that is text is made safe for an element and for an
// attribute in quotes.
func (m *markup) add(format string, args ...any) {
	for i, a := range args {
		switch a.(type) {
		case trusted, int, int64, uint64:
		default:
			args[i] = html.EscapeString(fmt.Sprint(a))
		}
	}
	fmt.Fprintf(m, format, args...)
}

// writePage returns page.html with what it shows.
func writePage(st *Status, fleet *FleetReport) string {
	now := st.Time
	title, news := "proxyd: ok", st.Problems()
	if len(news) > 0 {
		title = "! proxyd: " + news[0]
	}
	var sections markup
	sections.exchanges(st)
	sections.upstreams(st)
	sections.tunnels(st)
	sections.budgets(st)
	sections.fleet(fleet)
	sections.process(st)
	return strings.NewReplacer(
		"{{version}}", html.EscapeString(st.Version), "{{now}}", now.Format("2006-01-02T15:04:05.000Z07:00"), "{{second}}", now.Format(time.RFC3339), "{{clock}}", now.Format(time.TimeOnly),
		"{{title}}", html.EscapeString(title), "{{refresh}}", strconv.Itoa(refreshSeconds), "{{news}}", newsMarkup(st, news), "{{sections}}", strings.TrimSuffix(sections.String(), "\n"),
	).Replace(pageText)
}

func newsMarkup(st *Status, news []string) string {
	var m markup
	if len(news) == 0 {
		m.add("<h1>ok: %d tunnels</h1>\n", st.Active)
		return m.String()
	}
	m.add("<h1 class=\"bad\">%s</h1>\n", news[0])
	if len(news) > 1 {
		m.list(news[1:])
	}
	return m.String()
}

func (m *markup) list(lines []string) {
	m.add("<ul>")
	for _, line := range lines {
		m.add("<li>%s</li>", line)
	}
	m.add("</ul>")
}

// table begins a table; columns that begin with # are of numbers.
func (m *markup) table(label string, columns ...string) {
	m.add("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"%s\"><table>\n<thead><tr>", label)
	for _, c := range columns {
		name, isNumber := strings.CutPrefix(c, "#")
		if isNumber {
			m.add("<th scope=\"col\" class=\"n\">%s</th>", name)
		} else {
			m.add("<th scope=\"col\">%s</th>", name)
		}
	}
	m.add("</tr></thead>\n<tbody>")
}

func (m *markup) endTable() { m.add("</tbody></table></div>") }

// state shows a word, as bad where it is.
func (m *markup) state(word string, bad bool) {
	class := "dim"
	if bad {
		class = "bad"
	}
	m.add("<span class=\"state %s\">%s</span>", class, word)
}

func exchangeName(id string) string {
	if id == "" {
		return "other hosts"
	}
	return id
}

func (m *markup) exchanges(st *Status) {
	m.add("<section aria-labelledby=\"exchanges\"><h2 id=\"exchanges\">Exchanges</h2>\n")
	if len(st.Exchanges) == 0 {
		m.add("<p class=\"dim\">None.</p></section>\n")
		return
	}
	m.table("Exchanges", "Exchange", "State", "#Tunnels (most in 1 h)", "#Rate", "#Last byte", "#Opened in 1 h", "#Failed in 1 h")
	for i := range st.Exchanges {
		e := &st.Exchanges[i]
		m.add("<tr><th scope=\"row\">%s <span class=\"dim\">%s</span></th>\n<td>", exchangeName(e.Exchange), e.Kind)
		m.state(strings.ReplaceAll(string(e.State), "_", " "), e.State.Bad())
		if quiet := e.State == feed.NoTraffic; !quiet {
			if !e.Since.IsZero() {
				m.add(" <span class=\"dim\">since %s</span>", e.Since.Format(time.TimeOnly))
			}
			if e.Text != "" {
				m.add("<div>%s</div>", e.Text)
			}
		}
		if e.Hint != "" {
			m.add("<div class=\"dim\">%s</div>", e.Hint)
		}
		last := "–"
		if !e.LastByte.IsZero() {
			last = ago(e.LastByte) + " ago"
		}
		m.add("</td>\n<td class=\"n\">%d (%d)</td><td class=\"n\">%s/s</td><td class=\"n\">%s</td><td class=\"n\">%d</td><td class=\"n\">%d</td></tr>\n",
			e.Tunnels, e.TunnelsMax, byteWords(e.Down.Second), last, e.Opened, e.Failed)
	}
	m.endTable()
	m.add("</section>\n")
}

func ago(t time.Time) string { return printable.Span(time.Since(t)) }

func (m *markup) upstreams(st *Status) {
	m.add("<section aria-labelledby=\"upstreams\"><h2 id=\"upstreams\">Upstreams</h2>\n")
	if len(st.Upstreams) == 0 {
		m.add("<p class=\"dim\">None: all goes direct.</p></section>\n")
		return
	}
	m.table("Upstreams", "Upstream", "State", "URL", "Pools", "#Tunnels")
	for i := range st.Upstreams {
		u := &st.Upstreams[i]
		state := u.State
		if state == "" {
			state = "ok"
		}
		m.add("<tr><th scope=\"row\">%s</th>\n<td>", u.Name)
		m.state(state, u.Bad)
		for _, v := range u.Verdicts {
			m.add("<div class=\"dim\">%s %s: %s</div>", v.Exchange, v.Kind, v.Words(st.Time))
		}
		m.add("</td>\n<td><code>%s</code></td><td>%s</td><td class=\"n\">%d</td></tr>\n", u.URL, strings.Join(u.Pools, ", "), u.Tunnels)
	}
	m.endTable()
	m.add("</section>\n")
}

func (m *markup) tunnels(st *Status) {
	if len(st.Tunnels) == 0 {
		return
	}
	m.add("<section aria-labelledby=\"tunnels\"><h2 id=\"tunnels\">Tunnels: %d</h2>\n", st.Active)
	m.table("Tunnels", "Exchange", "Upstream", "#Tunnels")
	for i := range st.Tunnels {
		c := &st.Tunnels[i]
		m.add("<tr><th scope=\"row\">%s <span class=\"dim\">%s</span></th><td>%s</td><td class=\"n\">%d</td></tr>\n", exchangeName(c.Exchange), c.Kind, c.Upstream, c.Tunnels)
	}
	m.endTable()
	m.add("</section>\n")
}

func (m *markup) budgets(st *Status) {
	if len(st.Budgets) == 0 {
		return
	}
	m.add("<section aria-labelledby=\"budgets\"><h2 id=\"budgets\">Budgets</h2>\n")
	m.table("Budgets", "Exit", "Exchange", "Limit", "#Left")
	for i := range st.Budgets {
		b := &st.Budgets[i]
		m.add("<tr><th scope=\"row\">%s</th><td>%s %s</td><td>%s", b.Exit, b.Exchange, b.Kind, b.Limit)
		if b.Whole != "" {
			m.add(" (of %s)", b.Whole)
		}
		m.add("</td><td class=\"n\">%d</td></tr>\n", b.Remaining)
	}
	m.endTable()
	m.add("</section>\n")
}

func (m *markup) process(st *Status) {
	m.add("<section aria-labelledby=\"process\"><h2 id=\"process\">This process</h2>\n<dl><div><dt>Version</dt><dd>%s</dd></div>\n", st.Version)
	m.add("<div><dt>Running</dt><dd>%s, %s, pid %d, generation %d", string(st.State), ago(st.Started), st.PID, st.Generation)
	for _, p := range st.Older {
		m.add("<div>generation %d (pid %d) still serves %s, %s after its hand-over</div>", p.Generation, p.PID, printable.Count(p.Tunnels, "tunnel", "tunnels"), ago(p.Since))
	}
	m.add("</dd></div>\n<div><dt>Configuration</dt><dd>")
	if st.Config.File != "" {
		m.add("<code>%s</code>", st.Config.File)
	} else {
		m.add("built-in defaults")
	}
	m.add(", loaded %s ago</dd></div>\n", ago(st.Config.LoadedAt))
	if len(st.Config.Warnings) > 0 {
		m.add("<div><dt>Warnings</dt><dd>")
		m.list(st.Config.Warnings)
		m.add("</dd></div>\n")
	}
	m.add("<div><dt>Listeners</dt><dd>")
	for i := range st.Listeners {
		l := &st.Listeners[i]
		address := l.Bound
		if address == "" {
			address = l.Address
		}
		m.add("<div><code>%s</code>", address)
		if l.Use != "" {
			m.add(", all through %s", l.Use)
		}
		if l.Kind != "" {
			m.add(", %s", l.Kind)
		}
		m.add("<span class=\"dim\">, %s</span></div>", l.Reach)
	}
	m.add("</dd></div></dl></section>\n")
}
