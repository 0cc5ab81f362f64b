package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/feed"
)

// statusView writes a status for people, in lines of at most width columns, but for
// the problems: those are for searching and copying, and stay whole.
type statusView struct {
	strings.Builder
	width  int
	colour bool
	now    time.Time
}

// The colours, of ECMA-48.
const (
	red   = "31"
	green = "32"
	grey  = "90"
	bold  = "1"
)

func (v *statusView) paint(colour, text string) string {
	if !v.colour || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (v *statusView) line(text string) { v.WriteString(text + "\n") }

func (v *statusView) problem(text string) { v.line(v.paint(red, text)) }

// wrapped writes text behind a head, at most width columns wide.
func (v *statusView) wrapped(head, text string) {
	for _, part := range wrap(text, v.width-len(head)) {
		v.line(head + part)
		head = strings.Repeat(" ", len(head))
	}
}

// wrap cuts text at spaces, into parts of at most width bytes; a word that is longer
// is cut.
func wrap(text string, width int) (parts []string) {
	width = max(width, 20)
	for len(text) > width {
		at := strings.LastIndexByte(text[:width+1], ' ')
		if at <= 0 {
			parts, text = append(parts, text[:width]), text[width:]
			continue
		}
		parts, text = append(parts, text[:at]), text[at+1:]
	}
	return append(parts, text)
}

// status writes all of it, the worst first.
func (v *statusView) status(s admin.Status) {
	if len(s.Headlines) == 0 {
		v.line(v.paint(green, "ok"))
	}
	for _, text := range s.Headlines {
		v.problem(text)
	}
	v.lost(s.Exchanges)
	v.feeds(s)
	v.upstreams(s.Upstreams)
	v.budgets(s.Budgets)
	v.line("")
	v.process(s)
}

// lost writes what is lost, since when, and what to do.
func (v *statusView) lost(rows []feed.Exchange) {
	for i := range rows {
		e := &rows[i]
		if !e.State.Bad() {
			continue
		}
		v.line("")
		name := cutName(e.Exchange, v.width-44) + " " + e.Kind
		v.line(v.paint(red, strings.ToUpper(string(e.State))) + " " + v.paint(bold, name) + " since " + localTime(e.Since, v.now))
		v.wrapped("  ", e.Text)
		if e.Hint != "" {
			v.wrapped("  what to do: ", e.Hint)
		}
	}
}

// The widths of names in tables.
const (
	exchangeWidth = 18
	upstreamWidth = 16
)

// feeds writes a row for each feed, and for each exchange and kind without one. Those
// without traffic share a line.
func (v *statusView) feeds(s admin.Status) {
	type key struct{ exchange, kind string }
	through := map[key][]admin.Count{}
	for _, c := range s.Tunnels {
		through[key{c.Exchange, c.Kind}] = append(through[key{c.Exchange, c.Kind}], c)
	}
	g := grid{head: []string{"STATE", "EXCHANGE", "KIND", "UPSTREAM", "TUNNELS", "DOWN/S", "LAST", "FAILED"}, right: 4}
	var quiet []string
	for i := range s.Exchanges {
		e := &s.Exchanges[i]
		k := key{e.Exchange, e.Kind}
		list := through[k]
		delete(through, k)
		if e.State == feed.NoTraffic && len(list) == 0 {
			quiet = append(quiet, e.Exchange+" "+e.Kind)
			continue
		}
		v.exchange(&g, e, list)
	}
	for _, c := range s.Tunnels { // of a daemon that keeps no rows
		if k := (key{c.Exchange, c.Kind}); through[k] != nil {
			v.exchange(&g, &feed.Exchange{Exchange: c.Exchange, Kind: c.Kind, State: feed.OK}, through[k])
			delete(through, k)
		}
	}
	if len(g.rows) > 0 {
		v.line("")
		v.grid(g)
	}
	if len(quiet) > 0 {
		v.line("")
		v.wrapped("no traffic yet: ", strings.Join(quiet, ", "))
	}
}

// exchange adds the rows of an exchange and kind.
func (v *statusView) exchange(g *grid, e *feed.Exchange, list []admin.Count) {
	colour := ""
	switch {
	case e.State.Bad():
		colour = red
	case e.State == feed.Idle:
		colour = grey
	}
	row := func(state, through string, tunnels int, down float64, last time.Time, failed int) {
		g.add(colour, state, cutName(orDash(e.Exchange), exchangeWidth), orDash(e.Kind), cutName(orDash(through), upstreamWidth),
			fmt.Sprint(tunnels), shortBytes(down), v.since(last), fmt.Sprint(failed))
	}
	if len(list) == 0 {
		row(string(e.State), "", e.Tunnels, e.Down.Second, e.LastByte, e.Failed)
	}
	for _, c := range list {
		state := string(e.State)
		if c.Silent {
			state = string(feed.Silent)
		}
		row(state, c.Upstream, c.Tunnels, c.Down.Second, c.LastByte, c.Failed)
	}
}

// since returns how long ago a time is, in few letters.
func (v *statusView) since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return shortTime(v.now.Sub(t))
}

// upstreams writes the upstreams, those that are not used first.
func (v *statusView) upstreams(list []admin.Upstream) {
	if len(list) == 0 {
		return
	}
	g := grid{head: []string{"UPSTREAM", "TUNNELS", "POOLS", "URL"}, right: -1}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b admin.Upstream) int { return severity(a) - severity(b) })
	for _, u := range list {
		colour := ""
		if u.Bad {
			colour = red
		}
		g.add(colour, cutName(u.Name, upstreamWidth), fmt.Sprint(u.Tunnels), cutName(orDash(strings.Join(u.Pools, ",")), 16), u.URL)
		if state := upstreamState(u, v.now); state != "ok" {
			g.note(state)
		}
	}
	v.line("")
	v.grid(g)
}

// severity is the sort key of an upstream: those that are not used come first.
func severity(u admin.Upstream) int {
	switch {
	case u.Bad:
		return 0
	case u.State != "":
		return 1
	}
	return 2
}

func upstreamState(u admin.Upstream, now time.Time) string {
	words := []string{}
	if u.State != "" {
		words = append(words, u.State)
	}
	for _, x := range u.Verdicts {
		words = append(words, fmt.Sprintf("%s %s: %s", x.Exchange, x.Kind, x.Words(now)))
	}
	return cmp.Or(strings.Join(words, "; "), "ok")
}

func (v *statusView) budgets(list []admin.Budget) {
	if len(list) == 0 {
		return
	}
	g := grid{head: []string{"EXIT", "EXCHANGE", "KIND", "LIMIT", "LEFT"}, right: 4}
	for _, b := range list {
		limit := b.Limit
		if b.Watched {
			limit += " (watched)"
		}
		g.add("", cutName(b.Exit, upstreamWidth), cutName(orDash(b.Exchange), exchangeWidth), orDash(b.Kind), limit, fmt.Sprint(b.Remaining))
	}
	v.line("")
	v.grid(g)
}

// process writes what the daemon itself is.
func (v *statusView) process(s admin.Status) {
	line := func(name, format string, args ...any) {
		v.wrapped(fmt.Sprintf("%-9s ", name), fmt.Sprintf(format, args...))
	}
	line("proxyd", "%s, %s, up %s, generation %d, pid %d", s.Version, s.State, admin.Duration(v.now.Sub(s.Started)), s.Generation, s.PID)
	line("config", "%s, loaded %s ago", configName(s.Config.File), admin.Duration(v.now.Sub(s.Config.LoadedAt)))
	for _, w := range s.Config.Warnings {
		line("warning", "%s", w)
	}
	for _, p := range s.Older {
		line("older", "generation %d, pid %d, still serves %d tunnels, %s after its hand-over", p.Generation, p.PID, p.Tunnels, admin.Duration(v.now.Sub(p.Since)))
	}
	for _, l := range s.Listeners {
		line("listen", "%s", listenerWords(l))
	}
	line("tunnels", "%d", s.Active)
}

func listenerWords(l admin.Listener) string {
	words := []string{cmp.Or(l.Bound, l.Address)}
	if l.Reach != "" {
		words = append(words, l.Reach)
	}
	if l.Use != "" {
		words = append(words, "use "+l.Use)
	}
	if l.Kind != "" {
		words = append(words, "kind "+l.Kind)
	}
	return strings.Join(words, ", ")
}

// localTime returns a time of the day here, with the date if it is another one.
func localTime(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
