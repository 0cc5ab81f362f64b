package upstream

import (
	"time"

	"proxyd/internal/catalog"
)

// Opened is when a way of u for an exchange and a kind was last opened, by
// traffic or a probe; the zero time when none was.
func (u *Upstream) Opened(exchange string, kind catalog.Kind) time.Time {
	pr := u.known(exchange, kind)
	if pr == nil || pr.measured.Load() == 0 {
		return time.Time{}
	}
	return u.shared.start.Add(time.Duration(pr.measured.Load()))
}

// LivePair is how many ways of u for an exchange and a kind are open.
func (u *Upstream) LivePair(exchange string, kind catalog.Kind) int64 {
	pr := u.known(exchange, kind)
	if pr == nil {
		return 0
	}
	return pr.live.Load()
}
