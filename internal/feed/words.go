package feed

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"proxyd/internal/tunnel"
)

// maxNames is how many upstreams a text names.
const maxNames = 4

// words returns what is wrong with a pair in a second, or worth a note, and the cause of
// what is wrong; "" if nothing is.
func (p *pair) words(sec int64, now time.Time) (text, cause string) {
	switch p.state {
	case Lost:
		text, cause = p.openWords(now), p.cause()
		if p.retrying(now) {
			text = fmt.Sprintf("%s open, no failure since %s, ok when a new one has lasted 5 s; before", printable.Count(p.live, "tunnel is", "tunnels are"), printable.Clock(p.lastFailure(), now))
		}
		if how := p.failedWords(sec, now); how != "" {
			text += ", " + how
		}
		if !strings.Contains(text, "until ") && !strings.Contains(text, "since ") {
			text += ", since " + printable.Clock(p.since, now)
		}
		if cause != "" {
			text += ": " + cause
		}
	case Silent:
		if s := p.silence(); s != nil {
			text, cause = s.Text, s.why
		}
	case OK, Idle:
		switch text, cause = p.unwell(sec, now); {
		case p.state == OK && p.noMember != nil:
			text, cause = memberWords(p.noMember, " for new connections"), memberWords(p.noMember, "")
		case p.state == Idle && text == "":
			text = p.idleWords(now)
		}
	case NoTraffic:
		text = "no traffic yet"
		if p.inherited > 0 {
			text = "no traffic in this process yet; the one before it had " + printable.Count(p.inherited, "tunnel", "tunnels")
		}
	}
	return text, cause
}

// idleWords returns since when a pair is idle, and who ended its last tunnel.
func (p *pair) idleWords(now time.Time) string {
	if by := p.lastClose.By; !p.answered.After(p.ended) && by != "" {
		return "idle since " + printable.Clock(p.ended, now) + ": last closed by " + who(by)
	}
	return "idle since " + printable.Clock(latest(p.ended, p.answered), now)
}

// openWords returns how many tunnels are open, and how many were before.
func (p *pair) openWords(now time.Time) string {
	was := ""
	if p.high > p.live && !p.fell.IsZero() {
		was = fmt.Sprintf(" (%d until %s)", p.high, printable.Clock(p.fell, now))
	}
	switch {
	case p.live > 0 && p.failures == 0: // they may end at once, too
		return printable.Count(p.live, "tunnel", "tunnels") + was
	case p.live > 0:
		return printable.Count(p.live, "tunnel goes on", "tunnels go on") + was
	}
	return "0 tunnels" + was
}

// failedWords returns how many requests failed.
func (p *pair) failedWords(sec int64, now time.Time) string {
	var parts []string
	switch n := p.failedLately(sec); {
	case p.failures == 0:
	case n > 0:
		parts = append(parts, fmt.Sprintf("%d refused in 1 min", n))
	default:
		parts = append(parts, fmt.Sprintf("%d refused since %s", p.failures, printable.Clock(p.failedSince, now)))
	}
	if p.shorts > 0 && (p.failures < lostAfter || p.endsAtOnce()) {
		parts = append(parts, fmt.Sprintf("%d ended within 5 s since %s", p.shorts, printable.Clock(p.failedSince, now)))
	}
	if last := p.lastFailure(); len(parts) > 0 && now.Sub(last) >= time.Minute {
		parts = append(parts, "none since "+printable.Clock(last, now)) // its clients have given up
	}
	return strings.Join(parts, ", ")
}

// cause returns what the failures have in common: "upstream_denied by tokyo-1,
// tokyo-2", and what is known of these upstreams: "tokyo-1 is geoblocked by okx".
func (p *pair) cause() string {
	causes := p.recent()
	if len(causes) == 0 || p.refusedForWant() {
		if p.noMember != nil {
			return memberWords(p.noMember, "")
		}
		return ""
	}
	parts, rest := p.turnedWords(merged(causes))
	if len(rest) > 0 {
		parts = append(parts, causeWords(rest))
	}
	if drained := p.drained(); len(drained) > 0 {
		parts = append(parts, unavailableWords(drained))
	}
	return strings.Join(parts, "; ")
}

// refusedForWant reports whether requests failed for want of a member alone, and still
// would: why none can be used says more.
func (p *pair) refusedForWant() bool {
	return p.noMember != nil && !slices.ContainsFunc(p.recent(), func(c cause) bool { return c.class != failure.NoUpstream })
}

// causeWords returns causes in words, each once with all of its upstreams.
func causeWords(causes []cause) string {
	var order []string
	names := map[string][]string{}
	for _, c := range merged(causes) {
		head := c.head()
		if _, known := names[head]; !known {
			order = append(order, head)
		}
		names[head] = append(names[head], c.upstream)
	}
	parts := make([]string, len(order))
	for i, head := range order {
		list := slices.DeleteFunc(names[head], func(s string) bool { return s == "" })
		slices.Sort(list)
		if len(list) == 0 {
			parts[i], _, _ = strings.Cut(head, "\x00")
			continue
		}
		parts[i] = strings.Replace(head, "\x00", "", 1) + " " + namesOf(list)
	}
	return strings.Join(parts, "; ")
}

// merged returns causes with one for the tunnels through an upstream that ended at
// once, whoever closed them: a client does where the exchange turns it away. What an
// upstream closes that then refuses is one story.
func merged(causes []cause) (list []cause) {
	for _, c := range causes {
		if c.class == "" && c.by == tunnel.ByUpstream && slices.ContainsFunc(causes, func(other cause) bool { return other.upstream == c.upstream && other.ofUpstream() }) {
			continue
		}
		i := slices.IndexFunc(list, func(have cause) bool { return have.class == "" && c.class == "" && have.upstream == c.upstream })
		switch {
		case i < 0:
			c.by = who(c.by)
			list = append(list, c)
		case who(c.by) < list[i].by:
			list[i].by = who(c.by) + " or " + list[i].by
		default:
			list[i].by += " or " + who(c.by)
		}
	}
	return list
}

// ofUpstream reports whether it is an upstream that refuses.
func (c cause) ofUpstream() bool {
	return c.class != "" && strings.HasPrefix(failure.AnswerTo(c.class).Blame, "upstream")
}

// head returns the words before the upstream's name; what stands behind the NUL
// belongs to the name.
func (c cause) head() string {
	switch {
	case c.class == "":
		return "closed by " + c.by + "\x00 through"
	case c.ofUpstream():
		return string(c.class) + "\x00 by"
	}
	return string(c.class) + "\x00 through"
}

// who returns a side in words.
func who(by string) string {
	switch by {
	case "client":
		return "the client"
	case "upstream", "exchange":
		return "the " + by
	case "server":
		return "the other side"
	}
	return by
}

// recent returns the causes of the latest failures: those that go on and, behind them,
// those that may have led to them.
func (p *pair) recent() []cause {
	last := p.lastFailure()
	var list, before []cause
	for _, c := range p.causes {
		switch age := last.Sub(c.last); {
		case age <= causeGoesOn:
			list = append(list, c)
		case age <= causesFor:
			before = append(before, c)
		}
	}
	return append(list, before...)
}

// lastFailure returns when the latest failure was.
func (p *pair) lastFailure() (last time.Time) {
	for _, c := range p.causes {
		last = latest(last, c.last)
	}
	return last
}

// endsAtOnce reports whether tunnels still end at once, now that requests fail too.
func (p *pair) endsAtOnce() bool {
	last := p.lastFailure()
	return slices.ContainsFunc(p.causes, func(c cause) bool { return c.class == "" && last.Sub(c.last) <= causeGoesOn })
}

// upstreams returns the upstreams that the causes name, each once.
func (p *pair) upstreams() (names []string) {
	for _, c := range p.recent() {
		if c.upstream != "" && !slices.Contains(names, c.upstream) {
			names = append(names, c.upstream)
		}
	}
	for _, u := range p.noMember {
		if !slices.Contains(names, u.Upstream) {
			names = append(names, u.Upstream)
		}
	}
	slices.Sort(names) // the same from one look to the next
	return names
}

// backWords returns that a pair works again.
func (p *pair) backWords(since, now time.Time) string {
	lost := " after " + printable.Span(now.Sub(since))
	switch {
	case p.live > 0:
		return "works again" + lost + ": " + printable.Count(p.live, "tunnel", "tunnels")
	case p.state == OK:
		return "works again" + lost
	case p.state == Silent:
		return "tunnels open again" + lost + ", but silent"
	}
	return "can be used again" + lost + "; no client asks for it"
}

// namesOf returns a list of names, cut.
func namesOf(list []string) string {
	if more := len(list) - maxNames; more > 0 {
		return strings.Join(list[:maxNames], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(list, ", ")
}
