package admin

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/feed"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// Options are what a Server shows and starts. All funcs must be safe for
// concurrent use. A change that was asked for is finished even if the client
// leaves: the context of Reload and Upgrade does not end with the request.
type Options struct {
	Settings func() config.Admin   // asked for each request: allow, hosts, token and pprof take effect by reload
	Snapshot func() *router.Router // nil as long as there is none
	Status   func() Status
	Brief    func() Status                               // State, Reasons and Config alone, for /readyz, whatever the number of tunnels; nil: Status
	Tunnels  func(f Filter, limit int) ([]Tunnel, error) // the live tunnels that match, the quietest first; limit 0 is none. The error says what the filter may name
	Metrics  http.Handler
	Feeds    func() feed.Report // for /api/v1/feeds
	Journal  *event.Journal     // for /api/v1/events; nil: an empty one

	Config func() ConfigReport                // for /api/v1/config
	Fleet  func(context.Context) *FleetReport // for /api/v1/fleet; nil, or returns nil: this host is alone

	// Close ends the tunnels that match, spread evenly over a time, and returns how
	// many they are; with dryRun it only counts. It does not wait for over. nil: not
	// in this build.
	Close func(f Filter, over time.Duration, dryRun bool) (int, error)

	Reload  func(ctx context.Context, dryRun bool) Report
	Upgrade func(ctx context.Context, move bool, progress func(string)) error // nil: not on this system
	Drain   func(upstream, exchange string, on bool) error                    // exchange "" for all; nil: not in this build

	// Outlook says in a few words what is known of a pool's member for a
	// target: "ejected (for 3 s, at least 12 s left): upstream_refused". May be nil, as may Panicked.
	Outlook  func(p *upstream.Pool, m upstream.Member, t upstream.Target) string
	Panicked func(value any, stack []byte)
	// Relieve frees a descriptor of the process where an accept has found none;
	// false: it cannot. May be nil.
	Relieve func() bool
	// MaxConns is how many connections there may be at once; one too many closes
	// the one that has been waiting longest for a request. 0: 100.
	MaxConns int
}

// Limits of the server; the proxy's listeners have their own.
const (
	headTime   = 5 * time.Second
	answerTime = 30 * time.Second
	idleTime   = 2 * time.Minute
	headLimit  = 32 << 10 // maxHosts hosts in a query fit in
	connLimit  = 100
)

// Server is the admin server. It can serve several listeners, one after the
// other or at once.
type Server struct {
	challenges *challenges
	o          Options
	http       *http.Server
	endpoints  map[string]endpoint
	conns      *conns
	streams    *streams
	spares     spares
}

// New returns a server. It starts nothing.
func New(o Options) *Server {
	if o.Brief == nil {
		o.Brief = o.Status
	}
	if o.MaxConns <= 0 {
		o.MaxConns = connLimit
	}
	if o.Journal == nil {
		o.Journal = event.NewJournal(func(event.Event) {})
	}
	s := &Server{o: o, conns: &conns{limit: o.MaxConns}, challenges: newChallenges(), streams: newStreams(o.MaxConns)}
	s.endpoints = s.table()
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: headTime,
		WriteTimeout:      answerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headLimit,
		ConnContext:       withConn,
		ErrorLog:          log.New(io.Discard, "", 0),
		ConnState: func(c net.Conn, state http.ConnState) {
			s.conns.changed(c, state)
			if state == http.StateClosed {
				s.spares.fill()
			}
		},
		DisableGeneralOptionsHandler: true,
	}
	s.http.RegisterOnShutdown(s.streams.stop)
	return s
}

// Serve answers until ln is closed, by the caller or by Shutdown or Close, and
// then returns nil. It owns ln. Meanwhile it holds a few descriptors, so that it
// answers when the process has none left.
func (s *Server) Serve(ln net.Listener) error {
	s.spares.open()
	defer s.spares.close()
	err := s.http.Serve(sparing{ln, s})
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Retire ends the streams, and each connection after its current answer, so that a
// client that has kept one finds the process that listens now.
func (s *Server) Retire() {
	s.http.SetKeepAlivesEnabled(false)
	s.streams.stop()
}

// Shutdown closes the listeners, and waits for the answers under way.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close closes listeners and connections now.
func (s *Server) Close() error { return s.http.Close() }

// serve is every request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	defer s.recovered(w)
	h := w.Header()
	h.Set("Server", serverName)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	e, no := s.admit(r)
	if no != nil {
		no.write(w, r)
		return
	}
	e.serve(w, r)
}

// serverName marks our answers, so that the client knows when something else
// listens there.
const serverName = "proxyd"

// recovered keeps a panic in one answer from ending the process.
func (s *Server) recovered(w http.ResponseWriter) {
	v := recover()
	if v == nil {
		return
	}
	if s.o.Panicked != nil {
		s.o.Panicked(v, debug.Stack())
	}
	http.Error(w, "an error in proxyd, see its log; please report it", http.StatusInternalServerError)
}
