package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/inbound"
	"proxyd/internal/limit"
	"proxyd/internal/printable"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// leftWords returns what is left of pools: "1 of 3 members of asia left".
func leftWords(pools []*upstream.Pool, exchange string, k catalog.Kind) string {
	const most = 3
	words := make([]string, 0, len(pools))
	for i, p := range pools {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more pools", len(pools)-most))
			break
		}
		usable, enabled := p.Left(exchange, k)
		words = append(words, fmt.Sprintf("%d of %d members of %s left", usable, enabled, p.Name()))
	}
	return strings.Join(words, ", ")
}

// maxLines is how many upstreams have a line of their own; more of them share one.
const maxLines = 5

// failing is an upstream that is ejected, or rejects the credentials that it is given.
type failing struct {
	*upstream.Upstream
	why upstream.Failing
}

func (f *failing) since() time.Time { return cmp.Or(f.why.Ejected, f.why.Since) }

// upstreamFindings returns the upstreams that are ejected, or reject their credentials.
func upstreamFindings(snap *router.Router, now time.Time) (list []finding) {
	var all []failing
	inUse := 0
	for _, u := range snap.Set().Upstreams() {
		if u.Name() == "direct" || len(u.Pools()) == 0 {
			continue
		}
		inUse++
		why, bad := u.Failing()
		if !bad || why.Ejected.IsZero() && why.Cause != failure.UpstreamAuth {
			continue
		}
		all = append(all, failing{u, why})
	}
	if len(all) > maxLines {
		return []finding{manyFailing(all, inUse, now)}
	}
	for _, f := range all {
		found := finding{key: "upstream " + f.Name(), severity: event.Warn, since: f.since(), dated: true, hint: upstreamHints[f.why.Cause]}
		found.text = fmt.Sprintf("%s ejected since %s (%s), %s", f.Name(), printable.Clock(f.since(), now), f.why.Cause, leftWords(f.Pools(), "", 0))
		if f.why.Ejected.IsZero() {
			found.text = fmt.Sprintf("%s rejects its credentials since %s (%s)", f.Name(), printable.Clock(f.since(), now), f.why.Cause)
		}
		list = append(list, found)
	}
	return list
}

// manyFailing counts many failing upstreams, out of so many.
func manyFailing(all []failing, of int, now time.Time) finding {
	names, classes := make([]string, len(all)), map[string]int{}
	var since time.Time
	var pools []*upstream.Pool
	for i, f := range all {
		names[i] = f.Name()
		classes[string(f.why.Cause)]++
		since = earliest(since, f.since())
		for _, p := range f.Pools() {
			if !slices.Contains(pools, p) {
				pools = append(pools, p)
			}
		}
	}
	return finding{
		key: "upstreams", severity: event.Warn, since: since, dated: true, hint: "proxyd probe tests them",
		text: fmt.Sprintf("%d of %d upstreams ejected, the first since %s (%s): %s; %s",
			len(all), of, printable.Clock(since, now), counted(classes), several(names), leftWords(pools, "", 0)),
	}
}

// upstreamHints say what to do about an upstream that fails.
var upstreamHints = map[failure.Class]string{
	failure.UpstreamRefused:     "is the proxy up, is its port right?",
	failure.UpstreamUnreachable: "is its host up, is there a route to it?",
	failure.UpstreamTimeout:     "is its host up, is it overloaded?",
	failure.UpstreamDNS:         "correct its name, or see this machine's name server",
	failure.UpstreamAuth:        "correct the user and password in its URL, or in the file that this names",
	failure.UpstreamTLS:         "see its certificate: proxyd probe shows the error",
	failure.UpstreamProtocol:    "check the scheme and the port in its URL",
}

// counted returns how often each word stands: "98 upstream_timeout, 2 upstream_refused".
func counted(words map[string]int) string {
	type pair struct {
		word string
		n    int
	}
	var list []pair
	for w, n := range words {
		list = append(list, pair{w, n})
	}
	slices.SortFunc(list, func(a, b pair) int { return cmp.Or(b.n-a.n, strings.Compare(a.word, b.word)) })
	text := make([]string, len(list))
	for i, p := range list {
		text[i] = fmt.Sprintf("%d %s", p.n, p.word)
	}
	return strings.Join(text, ", ")
}

// several returns a list of names, cut after three.
func several(names []string) string {
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s (+%d more)", strings.Join(names[:3], ", "), len(names)-3)
}

// pairVerdict is what an exchange, or an upstream for it, says of those that would carry it.
type pairVerdict struct {
	exchange string
	kind     catalog.Kind
	word     upstream.Word
}

// verdictFindings returns which configured exchanges turn upstreams away that their
// pools would use, one for each exchange, kind and verdict.
func verdictFindings(snap *router.Router, now time.Time) (list []finding) {
	type found struct {
		pool         *upstream.Pool
		names        []string
		since, until time.Time
	}
	groups := map[pairVerdict]*found{}
	for _, u := range snap.Set().Upstreams() {
		for _, v := range u.BadVerdicts() {
			k := pairVerdict{v.Exchange, v.Kind, v.Verdict.Word}
			g := groups[k]
			if g == nil {
				g = &found{pool: configuredPool(snap, v.Exchange, v.Kind)}
				groups[k] = g
			}
			if g.pool == nil || !slices.Contains(u.Pools(), g.pool) {
				continue
			}
			g.names, g.since = append(g.names, u.Name()), earliest(g.since, v.Verdict.Since)
			if v.Verdict.Until.After(g.until) {
				g.until = v.Verdict.Until
			}
		}
	}
	for k, g := range groups {
		if len(g.names) == 0 {
			continue
		}
		text := fmt.Sprintf("%s %s: %s from %s since %s", k.exchange, k.kind, k.word, several(g.names), printable.Clock(g.since, now))
		if k.word == upstream.WordRateLimited {
			text += ", until " + printable.Clock(g.until, now)
		}
		list = append(list, finding{
			key: fmt.Sprint("verdict ", k), severity: event.Warn, since: g.since, dated: true, hint: verdictHints[k.word],
			text: text + ", " + leftWords([]*upstream.Pool{g.pool}, k.exchange, k.kind),
		})
	}
	slices.SortFunc(list, func(a, b finding) int { return strings.Compare(a.key, b.key) })
	return list
}

var verdictHints = map[upstream.Word]string{
	upstream.WordGeoblocked:               "use exits in another region for it",
	upstream.WordBlocked:                  "use other exits for it",
	upstream.WordRateLimited:              "send fewer requests, or spread them over more exits",
	upstream.Word(failure.UpstreamDenied): "the upstream does not carry it: see its rules, or use another one for it",
	upstream.Word(failure.UpstreamAuth):   upstreamHints[failure.UpstreamAuth],
}

// configuredPool returns the pool that serves an exchange which has an entry; nil for none.
func configuredPool(snap *router.Router, exchange string, k catalog.Kind) *upstream.Pool {
	for _, e := range snap.Config().Exchanges {
		if e.ID == exchange {
			return snap.Set().Pool(poolOf(snap.Config(), e, k))
		}
	}
	return nil
}

// poolFindings returns the pools that no connection can use, but those of configured
// exchanges: these have rows that say so.
func poolFindings(snap *router.Router) (list []finding) {
	for _, p := range snap.Config().Pools {
		if !snap.Set().Pool(p.Name).Usable("", 0) && !servesExchange(snap.Config(), p.Name) {
			list = append(list, finding{key: "pool " + p.Name, severity: event.Error, text: "pool " + p.Name + " has no usable member"})
		}
	}
	return list
}

// servesExchange reports whether a configured exchange goes through the pool.
func servesExchange(c *config.Config, pool string) bool {
	return slices.ContainsFunc(c.Exchanges, func(e config.Exchange) bool {
		return slices.ContainsFunc(catalog.Kinds[:], func(k catalog.Kind) bool { return poolOf(c, e, k) == pool })
	})
}

// poolOf returns the name of the pool that serves a configured exchange; "" for none.
func poolOf(c *config.Config, e config.Exchange, k catalog.Kind) string {
	if out := cmp.Or(e.Outbounds.Of(k), c.Default.Of(k)); out != nil && out.Action == config.Use {
		return out.Pool
	}
	return ""
}

// budgetFindings returns the budgets that are used up: those of windows and, if they
// keep connections waiting or have refused some in the last seconds, those of open ones.
func budgetFindings(snap *router.Router, now time.Time) (list []finding) {
	for _, r := range snap.Set().Budgets().Rows() {
		if r.RetryAfter == 0 && r.Queued == 0 && !r.Refusing {
			continue
		}
		name := budgetWords(r)
		text := name + " is used up"
		if r.RetryAfter > 0 {
			text += " until " + printable.Clock(now.Add(r.RetryAfter+time.Second-1), now)
		}
		f := finding{key: name, severity: event.Warn, text: text, hint: "spread over more exits, or open fewer connections"}
		if r.Limits.Watch {
			if r.Limits.Per <= watchedBurst { // clients that reconnect together use it up for a moment
				f.after = watchedAfter
			}
			f.hint = "the exchange publishes this limit, and may ban the exit; to enforce it: limits: published"
		}
		if r.Queued > 0 {
			f.text += fmt.Sprintf(", %d connections wait", r.Queued)
		}
		list = append(list, f)
	}
	return list
}

// A limit of a short window that is only watched is news once it is used up for longer
// than a moment; the journal has each time.
const (
	watchedBurst = 10 * time.Second
	watchedAfter = 5 * time.Second
)

// budgetWords returns a budget's name: "okx websocket budget 300/5m at exit tokyo".
func budgetWords(r limit.Row) string {
	where := "of " + r.Budget.Exit // "pool asia"
	if !strings.HasPrefix(r.Budget.Exit, "pool ") {
		where = "at exit " + r.Budget.Exit
	}
	limits := limitWords(r.Limits)
	if whole := wholeWords(r.Limits); whole != "" {
		limits += " (of " + whole + ")"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s budget %s %s", r.Budget.Exchange, r.Budget.Kind, limits, where))
}

// certificate is one that this daemon shows, or is shown. Several upstreams with the
// same one share an entry.
type certificate struct {
	of       string // "upstream", "listener", or "client certificate for upstream"
	names    []string
	validity upstream.Validity
	hint     string
}

// certificateFindings returns the certificates that have expired or expire soon, the
// first to expire first.
func certificateFindings(snap *router.Router, listeners []inbound.Certificate, now time.Time) (list []finding) {
	expiring := expiringCertificates(snap, listeners, now)
	for i, c := range expiring {
		if i == maxLines {
			list = append(list, finding{
				key: "certificates", severity: event.Warn, since: c.validity.WarnAt(), dated: true,
				text: fmt.Sprintf("%d more certificates expire before %s", len(expiring)-i, printable.Clock(expiring[len(expiring)-1].validity.NotAfter.Add(time.Minute), now)),
			})
			break
		}
		list = append(list, c.finding(now))
	}
	return list
}

// expiringCertificates returns the certificates that have expired or expire soon.
func expiringCertificates(snap *router.Router, listeners []inbound.Certificate, now time.Time) []*certificate {
	var list []*certificate
	add := func(of, name, hint string, v upstream.Validity) {
		if !v.ExpiresSoon(now) {
			return
		}
		i := slices.IndexFunc(list, func(c *certificate) bool { return c.of == of && c.validity == v })
		if i < 0 {
			i = len(list)
			list = append(list, &certificate{of: of, validity: v, hint: hint})
		}
		list[i].names = append(list[i].names, name)
	}
	for _, u := range snap.Set().Upstreams() {
		if len(u.Pools()) > 0 {
			add("upstream", u.Name(), "renew it there", u.Certificate())
			add("client certificate for upstream", u.Name(), "renew the file under tls.cert_file, then run: proxyd reload", u.ClientCertificate())
		}
	}
	for _, c := range listeners {
		add("listener", c.Listener, "renew the file "+c.File, c.Validity)
	}
	slices.SortStableFunc(list, func(a, b *certificate) int { return a.validity.NotAfter.Compare(b.validity.NotAfter) })
	return list
}

// finding returns what is wrong with a certificate that expires soon or has expired.
func (c *certificate) finding(now time.Time) finding {
	what := "the certificate of " + c.of
	if strings.Contains(c.of, " ") {
		what = "the " + c.of
	}
	end := c.validity.NotAfter
	f := finding{
		key: fmt.Sprint("certificate ", c.of, " ", end.Unix()), typ: event.Certificate, dated: true, hint: c.hint,
		over: what + " " + several(c.names) + " is renewed, or no longer used",
	}
	if len(c.names) == 1 && c.of != "listener" {
		f.upstream = c.names[0]
	}
	if now.After(end) {
		f.severity, f.since = event.Error, end
		f.text = fmt.Sprintf("%s %s expired at %s", what, several(c.names), printable.Clock(end, now))
		return f
	}
	f.severity, f.since = event.Warn, c.validity.WarnAt()
	f.text = fmt.Sprintf("%s %s expires at %s, in %s", what, several(c.names), printable.Clock(end, now), printable.Span(end.Sub(now)))
	return f
}
