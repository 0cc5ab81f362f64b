package admin

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/router"
)

// endpoint is what one path serves.
type endpoint struct {
	method string // GET serves HEAD too
	open   bool   // for machines under admin.allow, without a token
	serve  http.HandlerFunc
	takes  []string // the parameters of its query; nil: serve checks them itself
}

const pprofPath = "/debug/pprof/"

func (s *Server) table() map[string]endpoint {
	t := map[string]endpoint{
		"/":               {method: http.MethodGet, serve: s.page},
		"/healthz":        {method: http.MethodGet, open: true, serve: s.healthz},
		"/readyz":         {method: http.MethodGet, open: true, serve: s.readyz},
		"/metrics":        {method: http.MethodGet, open: true, serve: s.metrics},
		"/api/v1/status":  {method: http.MethodGet, serve: s.status},
		"/api/v1/tunnels": {method: http.MethodGet, serve: s.tunnels},
		"/api/v1/feeds":   {method: http.MethodGet, serve: s.feeds},
		"/api/v1/events":  {method: http.MethodGet, serve: s.events},
		"/api/v1/route":   {method: http.MethodGet, serve: s.route},
		"/api/v1/config":  {method: http.MethodGet, serve: s.config},
		"/api/v1/fleet":   {method: http.MethodGet, serve: s.fleet},
		"/-/reload":       {method: http.MethodPost, serve: s.reload, takes: []string{"dry_run"}},
		"/-/upgrade":      {method: http.MethodPost, serve: s.upgrade, takes: []string{"move"}},
		"/-/drain":        {method: http.MethodPost, serve: s.drain, takes: []string{"upstream", "exchange"}},
		"/-/resume":       {method: http.MethodPost, serve: s.drain, takes: []string{"upstream", "exchange"}},
		"/-/close":        {method: http.MethodPost, serve: s.closeTunnels},
	}
	for name := range pageFiles {
		t[pagePath+name] = endpoint{method: http.MethodGet, serve: pageFile}
	}
	return t
}

func (s *Server) notFound(path string) *refusal {
	if strings.HasPrefix(path, "/debug/") {
		return &refusal{status: http.StatusNotFound, text: "profiles are off, or there is none of that name; set admin: {pprof: true} and ask for " + pprofPath}
	}
	have := slices.Sorted(maps.Keys(s.endpoints))
	have = slices.DeleteFunc(have, func(path string) bool { return strings.HasPrefix(path, pagePath) })
	return &refusal{status: http.StatusNotFound, text: "nothing is here; there are " + strings.Join(have, " ")}
}

// healthz answers 200 while the process runs. It costs nothing.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	if no := s.refuseOther(r); no != nil {
		no.write(w, r)
		return
	}
	text(w, http.StatusOK, "ok\n")
}

// refuseOther refuses a probe that is meant for the proxyd at ?listener=, when that
// is not this one: several on one machine may have been left the same admin
// address.
func (s *Server) refuseOther(r *http.Request) *refusal {
	listener := r.URL.Query().Get("listener")
	if listener == "" {
		return nil
	}
	if snap := s.o.Snapshot(); snap != nil {
		if have, ok := HasListener(snap.Config(), listener); !ok {
			return &refusal{status: http.StatusNotFound, text: "another proxyd answers here, which listens on " + have + "; give each its own admin address"}
		}
	}
	return nil
}

// readyz answers 200 unless starting or draining: one bad pool must not take all
// exchanges out of service. With ?strict every problem is 503.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if no := s.refuseOther(r); no != nil {
		no.write(w, r)
		return
	}
	st := s.o.Brief()
	news := st.Problems()
	code, first := http.StatusOK, "ready"
	switch {
	case st.State != StateReady:
		code, first = http.StatusServiceUnavailable, "not ready"
	case len(news) > 0:
		first = "ready, but:"
		if isSet(r, "strict") {
			code = http.StatusServiceUnavailable
		}
	}
	text(w, code, strings.Join(append([]string{first}, news...), "\n")+"\n")
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if s.o.Metrics == nil {
		(&refusal{status: http.StatusNotImplemented, text: "this proxyd has no metrics; see /api/v1/status"}).write(w, r)
		return
	}
	s.o.Metrics.ServeHTTP(w, r)
}

// status answers once or, to a viewer that takes events, again and again.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if wantsStream(r) {
		s.streamStatus(w, r)
		return
	}
	writeJSON(w, http.StatusOK, s.o.Status().filled())
}

// config serves the configuration in force.
func (s *Server) config(w http.ResponseWriter, r *http.Request) {
	if s.o.Config == nil {
		(&refusal{status: http.StatusNotImplemented, text: "this proxyd does not show its configuration; run: proxyd check --print"}).write(w, r)
		return
	}
	c := s.o.Config()
	fill(&c.Faults)
	if c.LastReload != nil {
		last := *c.LastReload
		last.Report = last.filled()
		c.LastReload = &last
	}
	writeJSON(w, http.StatusOK, c)
}

const maxHosts = 100

// route answers as `proxyd route --format json` does, for each host=.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	no := func(status int, text string) { (&refusal{status: status, text: text}).write(w, r) }
	hint := router.Hint{Listener: q.Get("listener")}
	if kind := q.Get("kind"); kind != "" {
		k, err := catalog.ParseKind(kind)
		if err != nil {
			no(http.StatusBadRequest, "kind: "+err.Error())
			return
		}
		hint.Kind = k
	}
	snap := s.o.Snapshot()
	if snap == nil {
		no(http.StatusServiceUnavailable, "still starting; ask again in a moment")
		return
	}
	if have, ok := HasListener(snap.Config(), hint.Listener); !ok {
		no(http.StatusBadRequest, "listener: the configuration in force has "+have)
		return
	}
	hosts := q["host"]
	if len(hosts) == 0 || len(hosts) > maxHosts {
		no(http.StatusBadRequest, "name the host, at most 100 of them: /api/v1/route?host=HOST[:PORT]")
		return
	}
	answers := make([]Route, len(hosts))
	for i, host := range hosts {
		answers[i] = Explain(snap, host, hint, s.o.Outlook)
	}
	writeJSON(w, http.StatusOK, answers)
}

// servePprof serves Go's profiles, but not the command line.
func servePprof(w http.ResponseWriter, r *http.Request) {
	switch strings.TrimPrefix(r.URL.Path, pprofPath) {
	case "profile":
		pprof.Profile(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
}

// isSet reports whether a query has a name, and not with a value for no.
func isSet(r *http.Request, name string) bool {
	q := r.URL.Query()
	switch strings.ToLower(q.Get(name)) {
	case "0", "false", "no":
		return false
	}
	return q.Has(name)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // fails if the client has left
}

// streamStatus sends the status at once and twice a second, and each event as it
// happens.
func (s *Server) streamStatus(w http.ResponseWriter, r *http.Request) {
	after, _ := event.ParseID(r.Header.Get("Last-Event-ID"))
	s.streams.open(w, r, func(st *stream) error {
		return st.follow(s.o.Journal, event.Query{After: after}, func() (string, error) { return s.streams.latest.frame(s.o.Status) })
	})
}

// page serves the status to a browser: problems first.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	st := s.o.Status()
	st.Time = cmp.Or(st.Time, time.Now())
	st.Upstreams = slices.Clone(st.Upstreams)
	slices.SortStableFunc(st.Upstreams, func(a, b Upstream) int { return rank(b) - rank(a) })
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	_, _ = w.Write([]byte(writePage(&st, s.fleetReport(r.Context()))))
}
