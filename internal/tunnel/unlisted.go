package tunnel

import (
	"errors"
	"sync"
	"time"

	"proxyd/internal/router"
)

// mostUnlisted is how many unlisted hosts are remembered, and so reported.
const mostUnlisted = 1024

// unlistedHosts remembers the hosts that have been reported as in no row of the
// catalogue. What clients can make up fills it once; then it reports no more.
type unlistedHosts struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

// first reports whether a host is to be reported, and whether it is the last
// one that will be.
func (u *unlistedHosts) first(host string) (report, last bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.seen[host]; known || len(u.seen) >= mostUnlisted {
		return false, false
	}
	if u.seen == nil {
		u.seen = map[string]struct{}{}
	}
	u.seen[host] = struct{}{}
	return true, len(u.seen) == mostUnlisted
}

// reportUnlisted records, once a host, that its domain alone decided whose a
// host is. err is that of the look-up.
func (h *Handler) reportUnlisted(r Request, route router.Route, err error, start time.Time) {
	domain, target, rule := route.Domain, route.Target, route.Rule
	if denied, is := errors.AsType[*router.Denied](err); is {
		domain, target, rule = denied.Domain, denied.Target, denied.Rule
	}
	if domain == "" {
		return
	}
	report, last := h.unlisted.first(target.Host)
	if !report {
		return
	}
	rec := Record{Event: Unlisted, Opening: h.opening(r, start)}
	rec.Host, rec.Exchange, rec.Kind, rec.Rule = target.Host, target.Exchange, target.Kind, rule
	if route.Pool != nil {
		rec.Pool = route.Pool.Name()
	}
	rec.Text = "taken for " + target.Exchange + "'s by its domain " + domain + "; list it under exchanges." + target.Exchange + ".hosts to settle its kind"
	if last {
		rec.Text += "; no more such hosts are reported until proxyd starts again"
	}
	h.emit(&rec)
}
