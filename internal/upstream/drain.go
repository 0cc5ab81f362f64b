package upstream

import "proxyd/internal/catalog"

// SetDrained begins (or ends) a drain: no new connection through u, of the
// exchange alone unless that is "". Those that are open stay; the idle ones of
// plain HTTP are closed.
func (u *Upstream) SetDrained(exchange string, drained bool) {
	st := u.state
	if exchange == "" {
		st.mu.Lock()
		u.mark(markDrained, drained)
		st.mu.Unlock()
	} else {
		for _, kind := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
			pr := u.exchange(exchange, kind)
			st.mu.Lock()
			pr.drained.Store(drained)
			u.markPairs()
			st.mu.Unlock()
		}
	}
	if drained {
		u.shared.kept.closeIdle(func(k keptKey) bool { return k.lead == u.lead })
	}
}

// Drained reports whether u, or u for the exchange unless that is "", is drained.
func (u *Upstream) Drained(exchange string) bool {
	if u.state.marks.Load()&markDrained != 0 {
		return true
	}
	pr := u.known(exchange, catalog.KindHTTP)
	return exchange != "" && pr != nil && pr.drained.Load()
}
