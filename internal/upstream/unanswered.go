package upstream

import (
	"context"
	"errors"
	"net/http"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

// An HTTP upstream that takes plain requests and answers none cannot be told from an
// exchange that is slow, whose answer may take answerTime to begin; and most clients
// leave long before. So requests in a row without an answer are counted, and are the
// upstream's own failure once they were for several exchanges, or another upstream has
// answered for the one.

// unanswered is what is known of the requests that an upstream has not answered.
type unanswered struct {
	n       int       // in a row
	since   time.Time // the first was sent
	first   pairKey   // whose that was
	host    string    // where it belonged to no exchange
	several bool      // others were for another exchange, or another host
}

// errLeftWaiting is the cause of an error when a client left.
var errLeftWaiting = errors.New("the client left")

// leftWaiting returns the error of a request whose client left after it had waited
// in vain for longer than a client that has changed its mind; nil if it did not.
func leftWaiting(req *http.Request, u *Upstream, s *Set, waited time.Duration) *failure.Error {
	if cause := context.Cause(req.Context()); waited < 2*s.attempt || errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) || !bodiless(req) {
		return nil // context.Canceled: proxyd stops
	}
	e := protocolError(u.forwards(), "had the request and had not answered when the client left, "+printable.Seconds(waited)+" later")
	e.Class, e.Unsure, e.ProxyError, e.Upstream, e.Err = failure.TargetTimeout, u.forwards(), proxyNoAnswer, u.name, errLeftWaiting
	return e
}

// leftError returns err if leftWaiting has made it, else nil.
func leftError(err error) *failure.Error {
	if e, ok := errors.AsType[*failure.Error](err); ok && errors.Is(e.Err, errLeftWaiting) {
		return e
	}
	return nil
}

// bodiless reports whether a request is complete with its head: else the far end may
// be waiting for the client.
func bodiless(req *http.Request) bool { return req.Body == nil || req.Body == http.NoBody }

// recordUnanswered counts a request to t that was sent waited ago and has no answer.
// As many as eject.after in a row eject u, if the failure is seen to be its own.
func recordUnanswered(u *Upstream, t *Target, waited time.Duration) {
	now, pair := u.shared.now(), pairKey{t.Exchange, t.Kind}
	st := u.state
	st.mu.Lock()
	q := &st.unanswered
	if q.n == 0 {
		*q = unanswered{since: now.Add(-waited), first: pair, host: t.Host}
	}
	q.n++
	q.several = q.several || pair.exchange != q.first.exchange || pair.exchange == "" && t.Host != q.host
	u.mark(markStreak, true)
	n, several, since := q.n, q.several, u.shared.elapsed(q.since)
	st.mu.Unlock()
	if n >= u.rules.After && (several || othersAnswer(u, t, since)) {
		u.recordUpstreamError(failure.UpstreamTimeout, 1)
	}
}

// othersAnswer reports whether another member of u's pools has answered for t's
// exchange, or opened a connection to it, since a time on shared's clock.
func othersAnswer(u *Upstream, t *Target, since int64) bool {
	if t.Exchange == "" {
		return false
	}
	for _, p := range u.pools {
		for i := range p.members {
			m := p.members[i].Upstream
			if pr := m.known(t.Exchange, t.Kind); m != u && pr != nil && max(pr.answered.Load(), pr.measured.Load()) > since {
				return true
			}
		}
	}
	return false
}
