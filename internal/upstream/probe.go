package upstream

import (
	"context"
	"errors"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/limit"
)

// DialMember opens a way to t through u alone, whatever is remembered of it: for
// probes. The exchange counts these too, so they take places in the budgets of
// the exchange and of u's exit; where there is no room they do not wait. The error
// is an *Error, or ctx's when the caller gave up.
func (s *Set) DialMember(ctx context.Context, u *Upstream, t Target) (*Conn, error) {
	var h *budgetLease
	if need := s.needOf(&t, u.exit, ""); len(need.budgets) > 0 {
		grant, err := s.shared.limits.Acquire(ctx, 0, need.budgets)
		if f, full := errors.AsType[*limit.Full](err); full {
			e := fullFault(f)
			e.Unsure = true // it says nothing of u
			return nil, named(e, u)
		} else if errors.Is(err, limit.ErrSuspended) {
			e := suspendedFault(err)
			e.Unsure = true
			return nil, named(e, u)
		} else if err != nil {
			return nil, err
		}
		h = &budgetLease{grant: grant}
	}
	start := time.Now()
	way, err := u.open(ctx, s, t)
	if err != nil {
		h.failed(err)
		return nil, named(err, u)
	}
	h.opened()
	way.Dial, way.Release = time.Since(start), h.after(way.Release)
	return way, nil
}

// Ping connects to u itself and closes: it accepts TCP and, an https one, TLS.
// A direct one is always reached.
func (s *Set) Ping(ctx context.Context, u *Upstream) error {
	if u.url.Scheme == config.SchemeDirect {
		return nil
	}
	l, err := u.hopTLS(ctx, s, nil)
	if err != nil {
		return named(err, u)
	}
	l.close()
	return nil
}

// named puts the upstream's name to its error.
func named(err error, u *Upstream) error {
	if e, ok := errors.AsType[*failure.Error](err); ok && e.Upstream == "" {
		e.Upstream = u.name
	}
	return err
}
