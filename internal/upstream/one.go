package upstream

import (
	"context"
	"errors"
	"time"

	"proxyd/internal/config"
)

// DialOne opens a way to t through u alone, whatever is remembered of it: for
// probes. The error is an *Error, or ctx's when the caller gave up.
func (s *Set) DialOne(ctx context.Context, u *Upstream, t Target) (*Way, error) {
	start := time.Now()
	way, err := u.open(ctx, s, t)
	if err != nil {
		return nil, named(err, u)
	}
	way.Dial = time.Since(start)
	return way, nil
}

// Reach connects to u itself and closes: it accepts TCP and, an https one, TLS.
// A direct one is always reached.
func (s *Set) Reach(ctx context.Context, u *Upstream) error {
	if u.url.Scheme == config.SchemeDirect {
		return nil
	}
	conn, release, err := u.hopTLS(ctx, s)
	if err != nil {
		return named(err, u)
	}
	_ = conn.Close()
	release()
	return nil
}

// named puts the upstream's name to its error.
func named(err error, u *Upstream) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Upstream == "" {
		e.Upstream = u.name
	}
	return err
}

// IsDirect reports whether u leaves from this machine, without a proxy.
func (u *Upstream) IsDirect() bool { return u.url.Scheme == config.SchemeDirect }
