package feed

import (
	"cmp"
	"slices"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/upstream"
)

// memberWords returns why no member of a pool is healthy, and which are tried all the
// same: "no healthy upstream: tokyo-1 is geoblocked; it is still tried".
func memberWords(list []upstream.Unavailable, whatFor string) string {
	var tried []string
	for _, u := range list {
		if u.Tried {
			tried = append(tried, u.Upstream)
		}
	}
	why := whatFor + ": " + unavailableWords(list)
	switch {
	case len(tried) == 0:
		return "no upstream can be used" + why
	case len(list) == 1:
		return "no healthy upstream" + why + "; it is still tried"
	case len(tried) == len(list):
		return "no healthy upstream" + why + "; they are still tried"
	case len(tried) == 1:
		return "no healthy upstream" + why + "; " + tried[0] + " is still tried"
	}
	return "no healthy upstream" + why + "; " + namesOf(tried) + " are still tried"
}

// unavailableWords returns why upstreams cannot be used: "tokyo-1, tokyo-2 are ejected
// (upstream_refused), osaka-1 is drained".
func unavailableWords(list []upstream.Unavailable) string {
	var parts []string
	for i, u := range list {
		if slices.ContainsFunc(list[:i], func(have upstream.Unavailable) bool { return have.Why == u.Why }) {
			continue
		}
		names := []string{u.Upstream}
		for _, other := range list[i+1:] {
			if other.Why == u.Why {
				names = append(names, other.Upstream)
			}
		}
		is := " is "
		if len(names) > 1 {
			is = " are "
		}
		parts = append(parts, strings.Join(names, ", ")+is+u.Why)
	}
	return strings.Join(parts, ", ")
}

// drained returns the drained members of a pair's pool if upstreams fail: without the
// drain they might carry.
func (p *pair) drained() []upstream.Unavailable {
	if p.pool == nil || !slices.ContainsFunc(p.recent(), func(c cause) bool { return c.ofUpstream() || c.class == failure.NoUpstream }) {
		return nil
	}
	return slices.DeleteFunc(p.pool.Unavailable(p.key.exchange, p.key.kind), func(u upstream.Unavailable) bool { return u.Drained == "" })
}

// verdict returns what an exchange is known to say against an upstream whose tunnels it
// ends at once: "geoblocked by okx"; "" for nothing. Its region does not depend on the kind.
func (p *pair) verdict(c cause) (words string, word upstream.Word) {
	if c.class != "" || p.pool == nil {
		return "", ""
	}
	members := p.pool.Members()
	i := slices.IndexFunc(members, func(m upstream.Member) bool { return m.Name() == c.upstream })
	if i < 0 {
		return "", ""
	}
	if word = members[i].Turned(p.key.exchange, p.key.kind); word != "" {
		return string(word) + " by " + p.key.exchange, word
	}
	for _, kind := range catalog.Kinds {
		if word = members[i].Turned(p.key.exchange, kind); word == upstream.WordGeoblocked {
			return string(word) + " by " + p.key.exchange + " (" + kind.String() + ")", word
		}
	}
	return "", ""
}

// turnedWords returns which upstreams the exchange is known to turn away, and the causes
// that this does not explain.
func (p *pair) turnedWords(causes []cause) (parts []string, rest []cause) {
	var list []upstream.Unavailable
	for _, c := range causes {
		if words, _ := p.verdict(c); words != "" {
			list = append(list, upstream.Unavailable{Upstream: c.upstream, Why: words})
			continue
		}
		rest = append(rest, c)
	}
	if len(list) > 0 {
		slices.SortFunc(list, func(a, b upstream.Unavailable) int { return strings.Compare(a.Upstream, b.Upstream) })
		parts = append(parts, unavailableWords(list))
	}
	return parts, rest
}

// hints of what an exchange says against an upstream.
var turnedHints = map[upstream.Word]string{
	upstream.WordGeoblocked:  "use an exit in another region: proxyd probe --all EXCHANGE tries every upstream of the file",
	upstream.WordBlocked:     "use another exit: proxyd probe --all EXCHANGE tries every upstream of the file",
	upstream.WordRateLimited: "open fewer connections, or spread them over more exits",
}

// memberHint returns what to do about a pool without a healthy member: where all that
// are not drained have one reason, about that.
func (p *pair) memberHint(file string) string {
	hint := ""
	var names, reasons []string
	for _, u := range p.noMember {
		if u.Drained == "" {
			names, reasons = append(names, u.Upstream), append(reasons, u.Why)
		}
	}
	if len(names) > 0 {
		hint = hintNoMember
	}
	if reasons = slices.Compact(reasons); len(reasons) == 1 {
		why := strings.TrimSuffix(strings.TrimPrefix(reasons[0], "ejected ("), ")")
		hint = cmp.Or(turnedHints[upstream.Word(why)], hints[failure.Class(why)], hint)
	}
	return withResume(p.noMember, p.expand(file, hint, names...))
}

// withResume returns a hint behind that of the first drained one of some members.
func withResume(list []upstream.Unavailable, hint string) string {
	i := slices.IndexFunc(list, func(u upstream.Unavailable) bool { return u.Drained != "" })
	switch {
	case i < 0:
		return hint
	case hint == "":
		return "to end the drain: proxyd resume " + list[i].Drained
	}
	return "to end the drain: proxyd resume " + list[i].Drained + "; else " + hint
}
