package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/feed"
	"proxyd/internal/printable"
)

// Rate is a rate in bytes per second.
type Rate = feed.Rate

// Tunnel is a live one.
type Tunnel struct {
	ID            string    `json:"id"` // as in the log
	Client        string    `json:"client"`
	User          string    `json:"user,omitempty"`
	Protocol      string    `json:"protocol"`
	Host          string    `json:"host"`
	Port          uint16    `json:"port"`
	Exchange      string    `json:"exchange,omitempty"`
	Kind          string    `json:"kind"`
	Rule          string    `json:"rule"`
	Pool          string    `json:"pool"`
	Upstream      string    `json:"upstream"`
	Via           string    `json:"via,omitempty"` // the hops before it, the nearest to it first
	Started       time.Time `json:"started"`
	BytesUp       int64     `json:"bytes_up"` // from the client
	BytesDown     int64     `json:"bytes_down"`
	Up            Rate      `json:"up"` // from the client
	Down          Rate      `json:"down"`
	LastByte      time.Time `json:"last_byte,omitzero"`       // from the exchange, to the second
	Quiet         float64   `json:"quiet_seconds"`            // since then; since it was opened if none has come
	HalfClosed    bool      `json:"half_closed,omitempty"`    // one side has ended
	Silent        bool      `json:"silent,omitempty"`         // it carries next to nothing, and used to or should
	ClientStalled bool      `json:"client_stalled,omitempty"` // its client does not read
}

// NoExchange is what a Filter names the tunnels to hosts of no exchange by.
const NoExchange = "none"

// Filter says which tunnels are meant: all that match in everything that is set.
// Names compare without case.
type Filter struct {
	ID       string
	Exchange string // an id or an alias, or NoExchange
	Upstream string
	Kind     catalog.Kind
	Quiet    time.Duration // no byte from the exchange for so long
}

// Words describes what the filter selects: "okx websocket through tokyo-1".
func (f Filter) Words() string {
	var words []string
	add := func(format, value string) {
		if value != "" {
			words = append(words, fmt.Sprintf(format, value))
		}
	}
	exchange := f.Exchange
	if exchange == NoExchange {
		exchange = "no exchange"
	}
	add("%s", exchange)
	add("%s", f.Kind.String())
	add("through %s", f.Upstream)
	if f.Quiet > 0 {
		add("quiet for %s", printable.Span(f.Quiet))
	}
	add("with the id %s", printable.ASCII(f.ID))
	return strings.Join(words, " ")
}

// Query returns the filter as the parameters of an address.
func (f Filter) Query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"id": f.ID, "exchange": f.Exchange, "upstream": f.Upstream, "kind": f.Kind.String()} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Quiet > 0 {
		q.Set("quiet", f.Quiet.String())
	}
	return q
}

// filterOf reads a Filter; more are the other parameters that there may be. What
// it does not know it refuses: a name that is misspelled must not widen what is
// meant.
func filterOf(q url.Values, more ...string) (f Filter, err error) {
	known := append([]string{"id", "exchange", "upstream", "kind", "quiet"}, more...)
	for name, values := range q {
		switch {
		case !slices.Contains(known, name):
			return f, fmt.Errorf("%s is no parameter; there are %s", strconv.Quote(name), strings.Join(known, ", "))
		case len(values) > 1:
			return f, fmt.Errorf("%s stands there twice", name)
		case values[0] == "":
			return f, fmt.Errorf("%s is empty; give it a value, or leave it out", name)
		}
	}
	f = Filter{ID: q.Get("id"), Exchange: strings.ToLower(q.Get("exchange")), Upstream: strings.ToLower(q.Get("upstream"))}
	if kind := q.Get("kind"); kind != "" {
		if f.Kind, err = catalog.ParseKind(kind); err != nil {
			return f, fmt.Errorf("kind: %w", err)
		}
	}
	if quiet := q.Get("quiet"); quiet != "" {
		if f.Quiet, err = ParseDuration(quiet); err != nil {
			return f, fmt.Errorf("quiet: %w", err)
		}
	}
	return f, nil
}

// maxDuration is more than anything that ParseDuration is for.
const maxDuration = 7 * 24 * time.Hour

// ParseDuration parses a time as in "30s", "5m", "1h30m", or a number of seconds:
// more than 0, a week at most.
func ParseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d <= 0 || d > maxDuration {
		return 0, fmt.Errorf("%s is no time; write 30s, 5m or 1h, a week at most", strconv.Quote(s))
	}
	return d, nil
}

// tunnels collects before it writes: a slow reader delays no other request.
func (s *Server) tunnels(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	maps.DeleteFunc(q, func(_ string, v []string) bool { return len(v) == 1 && v[0] == "" })
	f, err := filterOf(q, "limit")
	limit := 0
	if n := q.Get("limit"); err == nil && n != "" {
		if limit, err = strconv.Atoi(n); err != nil || limit < 1 {
			err = fmt.Errorf("limit: %s is no number of tunnels, which is 1 or more", strconv.Quote(n))
		}
	}
	if err != nil {
		(&refusal{status: http.StatusBadRequest, text: err.Error()}).write(w, r)
		return
	}
	list, err := s.o.Tunnels(f, limit)
	if err != nil {
		(&refusal{status: http.StatusUnprocessableEntity, text: oneLine(err.Error())}).write(w, r)
		return
	}
	writeRows(w, list)
}

// writeRows writes a list with a row a line: indented, ten thousand rows take twice
// the time.
func writeRows(w http.ResponseWriter, list []Tunnel) {
	w.Header().Set("Content-Type", "application/json")
	var out bytes.Buffer
	enc := json.NewEncoder(&out) // which ends each row with a line end
	out.WriteString("[\n")
	for i := range list {
		_ = enc.Encode(&list[i]) // cannot fail: numbers, texts and times
		if i < len(list)-1 {
			out.Truncate(out.Len() - 1)
			out.WriteString(",\n")
		}
	}
	out.WriteString("]\n")
	_, _ = w.Write(out.Bytes()) // fails if the client has left
}

// closeTunnels serves /-/close.
func (s *Server) closeTunnels(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f, err := filterOf(q, "over", "dry_run")
	var over time.Duration
	if t := q.Get("over"); err == nil && t != "" && t != "0" {
		if over, err = ParseDuration(t); err != nil {
			err = fmt.Errorf("over: %w", err)
		}
	}
	if err == nil && f == (Filter{}) {
		err = fmt.Errorf("say which tunnels: %s?exchange=ID, upstream=NAME, kind=KIND, quiet=TIME or id=ID, or several of them", r.URL.Path)
	}
	switch {
	case s.o.Close == nil:
		(&refusal{status: http.StatusNotImplemented, text: "this proxyd cannot close tunnels"}).write(w, r)
		return
	case err != nil:
		(&refusal{status: http.StatusBadRequest, text: err.Error()}).write(w, r)
		return
	}
	dryRun := isSet(r, "dry_run")
	n, err := s.o.Close(f, over, dryRun)
	switch {
	case err != nil:
		(&refusal{status: http.StatusUnprocessableEntity, text: oneLine(err.Error())}).write(w, r)
	case n == 0:
		(&refusal{status: http.StatusNotFound, text: "no open tunnel matches: " + f.Words()}).write(w, r)
	default:
		text(w, http.StatusOK, closedWords(f, n, over, dryRun)+"\n")
	}
}

// closedWords says what was done: "closed 40 tunnels of okx websocket through tokyo-1".
func closedWords(f Filter, n int, over time.Duration, dryRun bool) string {
	verb, of, spread := "closed", "", ""
	if over > 0 {
		verb, spread = "closing", ", spread over "+printable.Span(over)
	}
	if dryRun {
		verb = "would close"
	}
	if f.Exchange != "" || f.Kind != catalog.KindUnknown {
		of = "of "
	}
	return verb + " " + printable.Count(n, "tunnel", "tunnels") + " " + of + f.Words() + spread
}
