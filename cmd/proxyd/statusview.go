package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/feed"
	"proxyd/internal/printable"
)

// statusView writes a status for people.
type statusView struct {
	layout
	now time.Time
}

// status writes all of it, the worst first.
func (v *statusView) status(s admin.Status) {
	if len(s.Headlines) == 0 {
		v.line(v.paint(green, "ok"))
	}
	for _, text := range s.Headlines {
		v.problem(text)
	}
	v.lost(s)
	v.feeds(s)
	v.upstreams(s.Upstreams)
	v.budgets(s.Budgets)
	v.lists(s.Lists)
	v.line("")
	v.process(s)
}

// lost writes what is lost, since when, and what to do. Those with one cause share a
// paragraph; what line 1 says in full is not said again.
func (v *statusView) lost(s admin.Status) {
	line1 := ""
	if len(s.Headlines) > 0 {
		line1 = s.Headlines[0]
	}
	for _, rows := range feed.SameCause(s.Exchanges) {
		e := rows[0]
		head := v.paint(red, strings.ToUpper(string(e.State))) + " "
		since := " since " + printable.Clock(e.Since, v.now)
		v.line("")
		switch name := v.rowName(e); {
		case len(rows) == 1:
			v.line(head + v.paint(bold, name) + since)
			if !strings.Contains(line1, name+": "+e.Text) && !strings.Contains(line1, name+": silent"+since+": "+e.Text) {
				v.wrapped("  ", e.Text)
			}
		default:
			v.wrapped(strings.ToUpper(string(e.State))+" ", strings.TrimSpace(since)+": "+e.Cause)
			var quiet []*feed.Exchange
			for _, e := range rows {
				if e.Unused() {
					quiet = append(quiet, e)
					continue
				}
				v.wrapped("  "+v.rowName(e)+": ", strings.TrimRight(strings.TrimSuffix(e.Text, e.Cause), ":; "))
			}
			if len(quiet) > 0 {
				v.wrapped("  unused: ", quietWords(quiet))
			}
		}
		if e.Hint != "" {
			v.wrapped("  what to do: ", e.Hint)
		}
	}
}

func (v *statusView) rowName(e *feed.Exchange) string {
	name := cutName(e.Exchange, v.width-44) + " " + e.Kind
	if e.Unused() {
		name += " (unused)"
	}
	return name
}

// The widths of names in tables.
const (
	exchangeWidth = 18
	upstreamWidth = 14
)

// feeds writes a row for each feed, and for each exchange and kind without one. Those
// without traffic share a line, and so do those of which all was refused.
func (v *statusView) feeds(s admin.Status) {
	type key struct{ exchange, kind string }
	through := map[key][]admin.Count{}
	for _, c := range s.Tunnels {
		through[key{c.Exchange, c.Kind}] = append(through[key{c.Exchange, c.Kind}], c)
	}
	g := grid{head: []string{"STATE", "EXCHANGE", "KIND", "UPSTREAM", "TUNNELS", "DOWN/S", "QUIET", "FAIL/H"}, right: 4}
	var quiet []*feed.Exchange
	var refused []string
	for i := range s.Exchanges {
		e := &s.Exchanges[i]
		k := key{e.Exchange, e.Kind}
		list := through[k]
		delete(through, k)
		switch {
		case len(list) > 0:
		case e.State == feed.NoTraffic && e.Failed > 0 && e.LastFailure != nil:
			refused = append(refused, fmt.Sprintf("%s %s (%d in 1 h, %s)", cmp.Or(e.Exchange, "hosts of no exchange"), e.Kind, e.Failed, e.LastFailure.Class))
			continue
		case e.State == feed.NoTraffic && e.Exchange == "": // of hosts of no exchange none is expected
			continue
		case e.State == feed.NoTraffic:
			quiet = append(quiet, e)
			continue
		case e.Unused(): // it stands above
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
	if len(refused) > 0 {
		v.line("")
		v.wrapped("refused only: ", strings.Join(refused, ", ")+"; proxyd's log names the hosts")
	}
	if len(quiet) > 0 {
		v.line("")
		v.wrapped("no traffic yet: ", quietWords(quiet))
	}
}

// mostQuiet is how many exchanges without traffic are named.
const mostQuiet = 24

// quietWords names exchanges, with the kind where it is one of them only.
func quietWords(rows []*feed.Exchange) string {
	var order []string
	kinds := map[string][]string{}
	for _, e := range rows {
		if kinds[e.Exchange] == nil {
			order = append(order, e.Exchange)
		}
		kinds[e.Exchange] = append(kinds[e.Exchange], e.Kind)
	}
	var words []string
	for _, name := range order {
		if len(kinds[name]) == 1 {
			name += " " + kinds[name][0]
		}
		words = append(words, name)
	}
	more := ""
	if n := len(words) - mostQuiet; n > 0 {
		words, more = words[:mostQuiet], fmt.Sprintf(" (+%d more)", n)
	}
	return strings.Join(words, ", ") + more
}

// exchange adds the rows of an exchange and kind.
func (v *statusView) exchange(g *grid, e *feed.Exchange, list []admin.Count) {
	colour := ""
	switch {
	case e.State.Bad():
		colour = red
	case e.Degraded():
		colour = yellow
	case e.State == feed.Idle:
		colour = grey
	}
	row := func(state, through string, tunnels int, down float64, last time.Time, failed int) {
		g.add(colour, state, cutName(orDash(e.Exchange), exchangeWidth), orDash(e.Kind), cutName(orDash(through), upstreamWidth),
			fmt.Sprint(tunnels), shortBytes(down), v.since(last), fmt.Sprint(failed))
	}
	if len(list) == 0 {
		row(e.Word(), "", e.Tunnels, e.Down.Second, e.LastByte, e.Failed)
	}
	for _, c := range list {
		state := e.Word()
		switch {
		case c.Silent:
			state = string(feed.Silent)
		case e.State == feed.Silent: // another feed of it is
			state = string(feed.OK)
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
	g := grid{head: []string{"UPSTREAM", "TUNNELS", "POOLS", "URL"}, right: -1}
	list = slices.DeleteFunc(slices.Clone(list), func(u admin.Upstream) bool {
		return u.Name == "direct" && u.Tunnels == 0 && u.State == "" && len(u.Verdicts) == 0 // not in use
	})
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
	if len(g.rows) == 0 {
		return
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

// budgets writes the budgets that refuse, and those that are watched once half of one
// is used; how many more there are is said in a line.
func (v *statusView) budgets(list []admin.Budget) {
	g := grid{head: []string{"EXIT", "EXCHANGE", "KIND", "LIMIT", "LEFT"}, right: 4}
	rest := 0
	for _, b := range list {
		limit := b.Limit
		if b.Watched {
			if limit += " (watched)"; !nearlyUsed(b) {
				rest++
				continue
			}
		}
		g.add("", cutName(b.Exit, upstreamWidth), cutName(orDash(b.Exchange), exchangeWidth), orDash(b.Kind), limit, fmt.Sprint(b.Remaining))
		if b.Whole != "" {
			g.add("", "", "", "", "of "+b.Whole, "")
		}
	}
	if len(g.rows) > 0 {
		v.line("")
		v.grid(g)
	}
	if rest > 0 {
		v.line("")
		v.wrapped("", fmt.Sprintf("limits that exchanges publish, watched only: %d, more than half of each is left", rest))
	}
}

// lists writes the lists from URLs.
func (v *statusView) lists(list []admin.List) {
	if len(list) == 0 {
		return
	}
	g := grid{head: []string{"LIST", "MEMBERS", "NEWEST", "FROM"}, right: -1}
	for _, l := range list {
		colour, members := "", fmt.Sprint(l.Members)
		if l.Problem != "" {
			colour = red
		}
		if !l.Known {
			members = "not known"
		}
		g.add(colour, cutName(l.Name, upstreamWidth), members, v.since(l.Success), l.From)
		if l.Problem != "" {
			g.note(l.Problem)
		}
	}
	v.line("")
	v.grid(g)
}

// nearlyUsed reports whether half of a budget is used, or its use is not known.
func nearlyUsed(b admin.Budget) bool {
	most := 0
	for part := range strings.SplitSeq(b.Limit, ", ") {
		n := 0
		if _, err := fmt.Sscanf(part, "%d", &n); err != nil || n == 0 {
			return true
		}
		if most == 0 || n < most {
			most = n
		}
	}
	return b.Refused > 0 || 2*b.Remaining <= most
}

// process writes what the daemon itself is.
func (v *statusView) process(s admin.Status) {
	line := func(name, format string, args ...any) {
		v.wrapped(fmt.Sprintf("%-9s ", name), fmt.Sprintf(format, args...))
	}
	line("proxyd", "%s, %s, up %s, generation %d, pid %d", s.Version, s.State, printable.Span(v.now.Sub(s.Started)), s.Generation, s.PID)
	line("config", "%s, loaded %s ago", configName(s.Config.File), printable.Span(v.now.Sub(s.Config.LoadedAt)))
	switch n := len(s.Config.Warnings); {
	case n == 1:
		line("warning", "%s", s.Config.Warnings[0])
	case n > 1:
		line("warnings", "%d, which proxyd check lists", n)
	}
	for _, p := range s.Older {
		line("older", "generation %d, pid %d, still serves %s, %s after its hand-over", p.Generation, p.PID, printable.Count(p.Tunnels, "tunnel", "tunnels"), printable.Span(v.now.Sub(p.Since)))
	}
	for _, l := range s.Listeners {
		line("listen", "%s", listenerWords(l, v.now))
	}
	line("tunnels", "%d", s.Active)
	if f := s.Fleet; f != nil && f.Used {
		line("fleet", "%s, Redis is used; proxyd status --fleet shows them", printable.Count(f.Hosts, "process", "processes"))
	} else if f != nil {
		line("fleet", "Redis is not used for %s", printable.Span(v.now.Sub(f.Since)))
	}
}

func listenerWords(l admin.Listener, now time.Time) string {
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
	switch {
	case l.LastConnection != nil:
		words = append(words, "the last "+printable.Span(now.Sub(*l.LastConnection))+" ago")
	case l.Transparent:
		words = append(words, "none has come yet")
	}
	return strings.Join(words, ", ")
}
