package admin

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/feed"
)

// events answers with what the journal has or, to a viewer that takes events, goes
// on with what happens.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	q, err := s.eventQuery(r.URL.Query(), time.Now())
	if err != nil {
		(&refusal{status: http.StatusBadRequest, text: err.Error()}).write(w, r)
		return
	}
	if !wantsStream(r) {
		writeJSON(w, http.StatusOK, s.o.Journal.Query(q))
		return
	}
	if id, ok := event.ParseID(r.Header.Get("Last-Event-ID")); ok { // of a viewer that comes back
		q.After, q.Since = id, time.Time{}
	}
	s.streams.open(w, r, func(st *stream) error { return st.follow(s.o.Journal, q, nil) })
}

// eventLimit is how many events an answer has unless limit says so.
const eventLimit = 1000

// eventQuery reads what is asked for. Exchange and upstream must be known, by the
// configuration or the journal: a wrong name would look like good news.
func (s *Server) eventQuery(values url.Values, now time.Time) (q event.Query, err error) {
	q.Limit = eventLimit
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list := values[name]
		value := list[len(list)-1]
		switch name {
		case "exchange":
			q.Exchange, err = s.exchangeID(strings.ToLower(value))
		case "kind":
			var k catalog.Kind
			if k, err = catalog.ParseKind(value); err == nil {
				q.Kind = k.String()
			}
		case "upstream":
			q.Upstream, err = s.upstreamName(strings.ToLower(value))
		case "severity":
			if q.Severity = event.Severity(value); !q.Severity.AtLeast(event.Info) {
				err = fmt.Errorf("%q is none of info, warn, error", value)
			}
		case "type":
			for _, t := range list {
				if q.Types = append(q.Types, event.Type(t)); !slices.Contains(event.Types[:], event.Type(t)) {
					err = fmt.Errorf("there is none of that name%s", config.DidYouMean(t, typeNames()))
				}
			}
		case "since":
			q.Since, q.After, err = parseSince(value, now)
		case "limit":
			if q.Limit, err = strconv.Atoi(value); err != nil || q.Limit < 1 {
				err = fmt.Errorf("%q is no number from 1 on", value)
			}
		default:
			err = fmt.Errorf("there is no such parameter%s", config.DidYouMean(name, []string{"exchange", "kind", "upstream", "severity", "type", "since", "limit"}))
		}
		if err != nil {
			return q, fmt.Errorf("%s: %w", name, err)
		}
	}
	return q, nil
}

func typeNames() (names []string) {
	for _, t := range event.Types {
		names = append(names, string(t))
	}
	return names
}

// parseSince reads a duration back from now, an RFC 3339 time, or an event's ID.
func parseSince(text string, now time.Time) (since time.Time, after event.ID, err error) {
	if id, ok := event.ParseID(text); ok {
		return since, id, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), after, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, after, nil
	}
	return since, after, fmt.Errorf("%q is no duration (1h30m), RFC 3339 time (%s) or event ID", text, now.UTC().Format(time.RFC3339))
}

// exchangeID returns the id of an exchange that the configuration or the journal has
// under a name.
func (s *Server) exchangeID(name string) (string, error) {
	if snap := s.o.Snapshot(); snap != nil {
		id, ok := snap.Config().Known().Resolve(name)
		if ok || slices.ContainsFunc(snap.Config().Exchanges, func(e config.Exchange) bool { return e.ID == name }) {
			return cmp.Or(id, name), nil
		}
	}
	if s.o.Journal.Has(func(e *event.Event) bool { return e.Exchange == name }) {
		return name, nil
	}
	return "", fmt.Errorf("there is no exchange %q; see: proxyd exchanges", name)
}

// upstreamName returns name if the configuration or the journal has such an upstream.
func (s *Server) upstreamName(name string) (string, error) {
	var names []string
	if snap := s.o.Snapshot(); snap != nil {
		for _, u := range snap.Set().Upstreams() {
			names = append(names, u.Name())
		}
	}
	if slices.Contains(append(names, "direct"), name) || s.o.Journal.Has(func(e *event.Event) bool { return e.Concerns(name) }) {
		return name, nil
	}
	return "", fmt.Errorf("there is no upstream %q%s", name, config.DidYouMean(name, names))
}

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
	if id, bad := s.exchangeID(exchange); bad == nil {
		exchange = id
	} else if exchange != "" && !slices.ContainsFunc(report.Exchanges, func(e feed.Exchange) bool { return e.Exchange == exchange }) {
		err = bad
	}
	if _, bad := s.upstreamName(through); bad != nil && through != "" && !slices.ContainsFunc(report.Feeds, func(f feed.Feed) bool { return f.Upstream == through }) {
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
