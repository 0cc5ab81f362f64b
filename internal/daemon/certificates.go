package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/event"
	"proxyd/internal/inbound"
	"proxyd/internal/printable"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

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
