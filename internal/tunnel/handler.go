// Package tunnel connects one client to one target: route, dial, carry bytes,
// account for it; and the same for one plain HTTP request. It speaks no client
// protocol; inbound does. It chooses no upstream; the route's pool does.
package tunnel

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"proxyd/internal/relay"
	"proxyd/internal/router"
)

// Options are what a Handler needs.
type Options struct {
	Snapshot func() *router.Router // the configuration in force; asked once for each request
	Relay    *relay.Engine
	Record   func(*Record) // must not block, nor keep it
	// Ending is called at once for a tunnel that has ended and whose Record comes a
	// little later, when it is clear who ended it; ClosedBy is not set yet. It must not
	// block, nor keep it; nil: it is not called.
	Ending     func(*Record)
	MaxTunnels int // the limit where the configuration sets none or a higher one; 0 is no limit
	// Relieve frees a descriptor where a dial has found none; false: it cannot.
	// nil: nothing can.
	Relieve func() bool
}

// Handler opens tunnels and serves plain requests.
type Handler struct {
	snapshot   func() *router.Router
	relay      *relay.Engine
	emit       func(*Record)
	ending     func(*Record)
	maxTunnels int
	dials      dialSlots
	relieve    func() bool
	throttle   throttle
	unlisted   unlistedHosts
	idPrefix   string
	idLast     atomic.Uint64
	draining   atomic.Bool
	closing    atomic.Bool
	endings    endings
	ctx        context.Context // of the endings; CloseAll ends it
	cancel     context.CancelFunc

	mu      sync.Mutex
	tunnels registry
	pending int           // tunnels that are being opened, and plain requests that are not yet answered
	records int           // of what has ended, not yet emitted
	idle    chan struct{} // closed when the last tunnel has ended, made by Wait
}

// NewHandler returns a Handler. It starts nothing.
func NewHandler(o Options) *Handler {
	var seed [3]byte
	_, _ = rand.Read(seed[:]) // never fails (crypto/rand)
	h := &Handler{
		snapshot:   o.Snapshot,
		relay:      o.Relay,
		emit:       o.Record,
		ending:     o.Ending,
		maxTunnels: o.MaxTunnels,
		dials:      dialSlots{shares: map[shareKey]*share{}},
		relieve:    o.Relieve,
		idPrefix:   hex.EncodeToString(seed[:]) + "-",
	}
	h.ctx, h.cancel = context.WithCancel(context.Background()) // which starts nothing
	return h
}

// Open routes and dials, inside the route's time budget. On success the caller
// answers the client and then calls Carry or Abandon exactly once. The error
// is a *Refusal; it has been recorded. ctx ends when the client leaves.
func (h *Handler) Open(ctx context.Context, r Request) (*Tunnel, error) {
	start := time.Now()
	snap := h.snapshot()
	route, refusal := h.admit(snap, r, start)
	if refusal != nil {
		return nil, refusal
	}
	if limit := h.limit(snap); !h.reserve(limit) {
		return nil, h.refuseFull(r, route, start, limit)
	}
	ctx, cancel := context.WithDeadline(ctx, start.Add(route.Timeout))
	defer cancel()
	slot := h.dials.slot(shareOf(&route), snap.Config().MaxDials, snap.Config().MaxDialsPerHost)
	conn, err := route.Pool.DialIn(ctx, route.Target, slot)
	for h.relieved(ctx, err) {
		conn, err = route.Pool.DialIn(ctx, route.Target, slot)
	}
	if err != nil {
		h.unreserve()
		return nil, h.refuseDial(r, route, start, err)
	}
	t := &Tunnel{h: h, conn: conn, limits: &snap.Config().Tunnel, member: conn.Member, record: h.opening(r, start), budget: route.Timeout}
	t.record.fill(route)
	t.record.Upstream, t.record.Via = conn.Member.Name(), conn.Via
	t.record.Attempts = conn.Tried
	t.record.Dial = time.Since(start)
	t.record.Queued = conn.Queued
	h.add(t)
	return t, nil
}

// ListsAddress reports whether a CIDR under routes decides about an address at a
// listener (see router.Router).
func (h *Handler) ListsAddress(ip netip.Addr, listener string) bool {
	return h.snapshot().ListsAddress(ip, listener)
}

// Loop returns why a redirected connection between two addresses, whose target is host,
// would go round, "" if it does not.
func (h *Handler) Loop(from, to netip.AddrPort, host string) string {
	return h.snapshot().Set().Loop(from, to, host)
}

// relieved reports whether a dial that has failed for want of a descriptor is
// worth another try.
func (h *Handler) relieved(ctx context.Context, err error) bool {
	scarce := errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
	return scarce && ctx.Err() == nil && h.relieve != nil && h.relieve()
}

// admit routes a request and checks what would forbid it on any route.
func (h *Handler) admit(snap *router.Router, r Request, start time.Time) (router.Route, *Refusal) {
	if h.draining.Load() {
		return router.Route{}, h.refuse(r, start, "limit", Refusal{
			Class: failure.Draining, RetryAfter: time.Second,
			Text: "proxyd is shutting down", Hint: "reconnect in a moment",
		})
	}
	route, err := snap.Route(r.Host, r.Port, r.Hint)
	h.reportUnlisted(r, route, err, start)
	if err != nil {
		return route, h.refuseRoute(r, start, err)
	}
	route.Target.Hops, route.Target.Upgrade, route.Target.Client = r.Hops, r.Upgrade, r.Client
	return route, nil
}

func (h *Handler) limit(snap *router.Router) int {
	if n := snap.Config().MaxTunnels; n > 0 && (h.maxTunnels == 0 || n < h.maxTunnels) {
		return n
	}
	return h.maxTunnels
}

func (h *Handler) refuseFull(r Request, route router.Route, start time.Time, limit int) *Refusal {
	return h.refuse(r, start, "limit", Refusal{
		Class: failure.Overload, Target: route.Target, Rule: route.Rule, RetryAfter: time.Second,
		Text: fmt.Sprintf("%d tunnels are open or being opened, which is the limit", limit),
		Hint: "raise max_tunnels; where it is not set, the limit of open files",
	})
}

func (h *Handler) refuseRoute(r Request, start time.Time, err error) *Refusal {
	var denied *router.Denied
	if errors.As(err, &denied) {
		return h.refuse(r, start, "route", Refusal{
			Class: failure.Denied, Target: denied.Target, Rule: denied.Rule, Text: denied.Text, Hint: denied.Hint, Err: err,
		})
	}
	return h.refuse(r, start, "request", Refusal{Class: failure.BadRequest, Text: err.Error(), Err: err})
}

func (h *Handler) refuseDial(r Request, route router.Route, start time.Time, err error) *Refusal {
	f := Refusal{Target: route.Target, Rule: route.Rule, Pool: route.Pool.Name(), Err: err}
	var e *failure.Error
	switch {
	case errors.As(err, &e):
		f.Class, f.Upstream, f.Hint, f.Tried, f.RetryAfter = e.Class, e.Upstream, e.Hint, e.Tried, e.RetryAfter
		f.Text, f.ProxyError = e.Error(), e.ProxyError
	case errors.Is(err, context.DeadlineExceeded):
		f.Class = failure.TargetTimeout
		f.Text = fmt.Sprintf("no connection to the target within %g s", route.Timeout.Seconds())
		f.Hint = "if it is only slow, raise timeout_seconds"
	default:
		f.Class, f.Text = failure.ClientGone, "the client left before the connection was open"
	}
	return h.refuse(r, start, "dial", f)
}

// Refuse completes and records a refusal that the front end itself decided
// (bad_request, auth, denied). status overrides the class's HTTP status (408,
// 431, 501 …); 0 keeps it.
func (h *Handler) Refuse(r Request, class failure.Class, status int, text, hint string) *Refusal {
	return h.refuse(r, time.Now(), "request", Refusal{Class: class, Status: status, Text: text, Hint: hint})
}

// refuse sets f's id and delay, and records it.
func (h *Handler) refuse(r Request, start time.Time, step string, f Refusal) *Refusal {
	rec := Record{Opening: h.opening(r, start)}
	f.ID = rec.ID
	if f.Target.Host != "" {
		rec.Host, rec.Exchange, rec.Kind = f.Target.Host, f.Target.Exchange, f.Target.Kind
	}
	f.addResolved(r.Protocol)
	rec.Event, rec.Step, rec.Class, rec.Text, rec.Hint = Refused, step, f.Class, f.Text, f.Hint
	rec.Rule, rec.Pool, rec.Upstream, rec.Attempts = f.Rule, f.Pool, f.Upstream, f.Tried
	rec.Duration = time.Since(start)
	f.Delay = h.throttle.record(&rec)
	h.emit(&rec)
	return &f
}

// opening returns what a record begins with; the host is replaced by the
// normalised one as soon as there is one.
func (h *Handler) opening(r Request, start time.Time) Opening {
	return Opening{
		ID: h.idPrefix + strconv.FormatUint(h.idLast.Add(1), 36), Client: r.Client, Label: r.Label,
		Protocol: r.Protocol, Host: cleanHost(r.Host), Port: r.Port, Start: start,
	}
}

func (r *Opening) fill(route router.Route) {
	r.Host, r.Exchange, r.Kind = route.Target.Host, route.Target.Exchange, route.Target.Kind
	r.Rule, r.Pool = route.Rule, route.Pool.Name()
}

// cleanHost returns a client's host fit for a log: printable, without spaces, and
// no longer than a name can be.
func cleanHost(s string) string {
	return strings.ReplaceAll(printable.ASCII(s[:min(len(s), 255)]), " ", "?")
}

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
