package admin

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/feed"
	"proxyd/internal/printable"
)

// Problems returns what an operator must see first, one line each; none if all is
// well. Line 1 of status, the headline of the page and the body of /readyz are this
// list.
func (s Status) Problems() []string {
	news := lostLines(s.Exchanges, s.Time)
	if !s.Config.InForce {
		since := ""
		if !s.Config.FaultsSince.IsZero() {
			since = " (since " + printable.Clock(s.Config.FaultsSince, s.Time) + ")" // a fault ends with a command to run
		}
		for _, f := range s.Config.Faults {
			news = append(news, "FILE NOT IN FORCE: "+f+since)
		}
		if len(s.Config.Faults) == 0 {
			news = append(news, "FILE NOT IN FORCE: "+s.Config.File+" has changed since it was loaded; run: proxyd reload")
		}
	}
	switch s.State {
	case StateReady:
	case StateDraining:
		news = append(news, "DRAINING: takes no new connections")
	default:
		news = append(news, "STARTING: takes no connections yet")
	}
	for i := range s.Exchanges {
		if e := &s.Exchanges[i]; e.Degraded() {
			line := "DEGRADED: " + rowName(e) + ": " + e.Text
			if e.Hint != "" {
				line += "; " + e.Hint
			}
			news = append(news, line)
		}
	}
	for _, r := range s.Reasons {
		news = append(news, "DEGRADED: "+r)
	}
	return news
}

// lineWidth is where the line of the exchanges that are lost stops to name them.
const lineWidth = 160

// loss is one or more exchanges and kinds that are lost for the same cause.
type loss struct {
	names []string
	text  string
}

func (l *loss) String() string { return strings.Join(l.names, ", ") + ": " + l.text }

// lostLines returns a line that names every exchange and kind that is lost, the
// worst first, as far as there is room, with the words of the first one in full; and a
// line each for the others.
func lostLines(rows []feed.Exchange, now time.Time) []string {
	losses := lossesOf(rows, now)
	if len(losses) == 0 {
		return nil
	}
	all := make([]string, len(losses))
	for i := range losses {
		all[i] = losses[i].String()
	}
	if line := "BAD: " + strings.Join(all, "; "); len(line) <= lineWidth {
		return []string{line}
	}
	first, full := headLine(losses)
	lines := []string{first}
	for _, text := range all[full:] {
		lines = append(lines, "BAD: "+text)
	}
	return lines
}

// headLine returns the first line, and how many losses it says in full.
func headLine(losses []loss) (line string, full int) {
	var others []string
	for i := range losses[1:] {
		others = append(others, losses[i+1].names...)
	}
	more := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf(" (+%d more)", n)
	}
	names, text := losses[0].names, losses[0].text
	named := len(names)
	whole := func() string {
		return "BAD: " + strings.Join(names[:named], ", ") + ": " + text + more(len(names)-named+len(others))
	}
	for named > 2 && len(whole()) > lineWidth {
		named-- // the cause says more than a third name
	}
	if named < len(names) {
		return whole(), 0
	}
	line = "BAD: " + losses[0].String()
	for i, name := range others {
		next := line + ", " + name
		if i == 0 {
			next = line + "; bad too: " + name
		}
		if len(next)+len(more(len(others)-i-1)) > lineWidth {
			return line + more(len(others)-i), 1
		}
		line = next
	}
	return line, 1
}

// lossesOf returns the losses in the order of the rows; those with the same cause
// are one.
func lossesOf(rows []feed.Exchange, now time.Time) (losses []loss) {
	for _, group := range feed.SameCause(rows) {
		l := loss{text: group[0].Text}
		for _, e := range group {
			l.names = append(l.names, rowName(e))
		}
		switch silent := group[0].State == feed.Silent; {
		case silent && len(group) == 1:
			l.text = "silent since " + printable.Clock(group[0].Since, now) + ": " + l.text
		case silent:
			l.text = silentTogether(group, now)
		case len(group) > 1:
			l.text = together(group, now)
		}
		losses = append(losses, l)
	}
	return losses
}

// together returns what rows with the same cause have in common.
func together(group []*feed.Exchange, now time.Time) string {
	open, lost := 0, 0
	for _, e := range group {
		open, lost = open+e.Tunnels, lost+e.Lost
	}
	text := printable.Count(open, "tunnel", "tunnels")
	if !slices.ContainsFunc(group, func(e *feed.Exchange) bool { return !e.Retrying }) {
		return fmt.Sprintf("%s, ok when a new one has lasted 5 s; before, lost since %s: %s", text, printable.Clock(earliest(group), now), group[0].Cause)
	}
	if lost > 0 {
		text += fmt.Sprintf(", %d lost", lost)
	}
	return fmt.Sprintf("%s, since %s: %s", text, printable.Clock(earliest(group), now), group[0].Cause)
}

// silentTogether returns what rows have in common whose silence is blamed on the same.
func silentTogether(group []*feed.Exchange, now time.Time) string {
	open, silent := 0, 0
	for _, e := range group {
		open, silent = open+e.Tunnels, silent+e.Silent
	}
	count := ""
	if open > silent {
		count = fmt.Sprint(silent, " of ")
	}
	count += printable.Count(max(open, silent), "tunnel", "tunnels")
	return fmt.Sprintf("silent since %s, %s: %s", printable.Clock(earliest(group), now), count, group[0].Cause)
}

// earliest returns when the first of rows got its state.
func earliest(group []*feed.Exchange) time.Time {
	return slices.MinFunc(group, func(a, b *feed.Exchange) int { return a.Since.Compare(b.Since) }).Since
}

// rowName returns an exchange and kind, and whether no client misses it.
func rowName(e *feed.Exchange) string {
	if e.Unused() {
		return e.Exchange + " " + e.Kind + " (unused)"
	}
	return e.Exchange + " " + e.Kind
}
