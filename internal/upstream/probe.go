package upstream

import (
	"context"
	"errors"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/limit"
)

// DialMember opens a connection to t through u only, whatever its state: for probes.
// The exchange counts these too, so they take from the budgets of the exchange and of
// u's exit; if there is no room they do not wait. The error is a *failure.Error, or
// ctx's when the caller gave up.
func (s *Set) DialMember(ctx context.Context, u *Upstream, t Target) (*Conn, error) {
	var h *budgetLease
	if need := s.requirementOf(&t, u.exit, ""); len(need.budgets) > 0 {
		grant, err := s.shared.limits.Acquire(ctx, 0, need.budgets)
		if f, full := errors.AsType[*limit.Full](err); full {
			e := fullError(f)
			e.Unsure = true // it says nothing of u
			return nil, withName(e, u)
		} else if errors.Is(err, limit.ErrSuspended) {
			e := suspendedError(err)
			e.Unsure = true
			return nil, withName(e, u)
		} else if err != nil {
			return nil, err
		}
		h = &budgetLease{grant: grant}
	}
	start := time.Now()
	conn, err := u.open(ctx, s, t)
	if err != nil {
		h.failed(err)
		return nil, withName(err, u)
	}
	h.opened()
	conn.Dial, conn.Release = time.Since(start), h.after(conn.Release)
	return conn, nil
}

// Ping connects to u itself and closes: it accepts TCP and, an https one, TLS.
// A direct one is always reachable.
func (s *Set) Ping(ctx context.Context, u *Upstream) error {
	if u.url.Scheme == config.SchemeDirect {
		return nil
	}
	l, err := u.hopTLS(ctx, s, nil)
	if err != nil {
		return withName(err, u)
	}
	l.close()
	return nil
}

// withName adds the upstream's name to its error.
func withName(err error, u *Upstream) error {
	if e, ok := errors.AsType[*failure.Error](err); ok && e.Upstream == "" {
		e.Upstream = u.name
	}
	return err
}
