package upstream

import (
	"errors"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// Who waited for a budget while its only member was drained, or was limited by
// the exchange, is told so: no new connection leaves.
func TestDrainedWhileQueued(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		take func(u *Upstream)
	}{
		"the member": {func(u *Upstream) { u.SetDrained("", true) }},
		"the pair":   {func(u *Upstream) { u.SetDrained("binance", true) }},
		"rate limits": {func(u *Upstream) {
			u.SetVerdict("binance", feedKind, Verdict{Word: WordRateLimited, Until: time.Now().Add(time.Hour)})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := proxies(t, 1)
			s := load(t, poolOf(list, "failover", "limits: {max_connections: 1, queue_seconds: 8}"), nil)
			p := only(t, s)
			first, err := p.Dial(budget(t, testkit.Patience), on("kraken", feedKind)) // of another exchange: its feed says nothing
			if err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			ctx := budget(t, 2*testkit.Patience)
			go func() { // ends with ctx; waited for below
				way, err := p.Dial(ctx, feed)
				if err == nil {
					_ = way.Conn.Close()
					way.Release()
				}
				failed <- err
			}()
			testkit.Eventually(t, testkit.Patience, "it waits", func() bool { return s.Budgets().Rows()[0].Queued == 1 })
			tt.take(s.Upstream("a"))
			_ = first.Conn.Close()
			first.Release()
			var e *failure.Error
			if err := <-failed; !errors.As(err, &e) || e.Class != failure.NoUpstream || e.RetryAfter == 0 {
				t.Errorf("%v", err)
			}
			if n := list[0].Accepted(); n != 1 {
				t.Errorf("%d connections came, want the one from before", n)
			}
			if r := s.Budgets().Rows()[0]; r.Open != 0 || r.Queued != 0 {
				t.Errorf("the budget is not whole again: %+v", r)
			}
		})
	}
}
