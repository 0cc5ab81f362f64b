package admin

import (
	"net/http"
	"slices"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/feed"
)

// feeds answers with the rows of exchanges and feeds, or those that match
// ?exchange=, ?kind= and ?upstream=. An upstream's exchanges are those that it has
// feeds of.
func (s *Server) feeds(w http.ResponseWriter, r *http.Request) {
	if s.o.Feeds == nil {
		(&refusal{status: http.StatusNotImplemented, text: "this proxyd keeps no feeds; see /api/v1/status"}).write(w, r)
		return
	}
	q, report := r.URL.Query(), s.o.Feeds()
	exchange, kind, through := strings.ToLower(q.Get("exchange")), q.Get("kind"), strings.ToLower(q.Get("upstream"))
	var err error
	if kind != "" {
		k, bad := catalog.ParseKind(kind)
		kind, err = k.String(), bad
	}
	if id, bad := s.eventExchange(exchange); bad == nil {
		exchange = id
	} else if exchange != "" && !slices.ContainsFunc(report.Exchanges, func(e feed.Exchange) bool { return e.Exchange == exchange }) {
		err = bad
	}
	if _, bad := s.eventUpstream(through); bad != nil && through != "" && !slices.ContainsFunc(report.Feeds, func(f feed.Feed) bool { return f.Upstream == through }) {
		err = bad
	}
	if err != nil {
		(&refusal{status: http.StatusBadRequest, text: err.Error()}).write(w, r)
		return
	}
	writeJSON(w, http.StatusOK, selected(report, exchange, kind, through))
}

// selected returns the rows of a report that match what is not "".
func selected(r feed.Report, exchange, kind, through string) feed.Report {
	matches := func(want, have string) bool { return want == "" || want == have }
	r.Feeds = slices.DeleteFunc(r.Feeds, func(f feed.Feed) bool {
		return !matches(exchange, f.Exchange) || !matches(kind, f.Kind) || !matches(through, f.Upstream)
	})
	type key struct{ exchange, kind string }
	have := map[key]bool{}
	for i := range r.Feeds {
		have[key{r.Feeds[i].Exchange, r.Feeds[i].Kind}] = true
	}
	r.Exchanges = slices.DeleteFunc(r.Exchanges, func(e feed.Exchange) bool {
		return !matches(exchange, e.Exchange) || !matches(kind, e.Kind) || through != "" && !have[key{e.Exchange, e.Kind}]
	})
	return r
}
