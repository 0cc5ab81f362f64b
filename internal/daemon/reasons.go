package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/limit"
	"proxyd/internal/printable"
	"proxyd/internal/router"
)

// poolFindings returns the pools that no connection can use, but those of configured
// exchanges: these have rows that say so.
func poolFindings(snap *router.Router) (list []finding) {
	for _, p := range snap.Config().Pools {
		if !snap.Set().Pool(p.Name).Usable("", 0) && !servesExchange(snap.Config(), p.Name) {
			list = append(list, finding{key: "pool " + p.Name, severity: event.Error, text: "pool " + p.Name + " has no usable member"})
		}
	}
	return list
}

// servesExchange reports whether a configured exchange goes through the pool.
func servesExchange(c *config.Config, pool string) bool {
	return slices.ContainsFunc(c.Exchanges, func(e config.Exchange) bool {
		return slices.ContainsFunc(catalog.Kinds[:], func(k catalog.Kind) bool { return poolOf(c, e, k) == pool })
	})
}

// poolOf returns the name of the pool that serves a configured exchange; "" for none.
func poolOf(c *config.Config, e config.Exchange, k catalog.Kind) string {
	if out := cmp.Or(e.Outbounds.Of(k), c.Default.Of(k)); out != nil && out.Action == config.Use {
		return out.Pool
	}
	return ""
}

// budgetFindings returns the budgets that are used up: those of windows and, if they
// keep connections waiting or have refused some in the last seconds, those of open ones.
func budgetFindings(snap *router.Router, now time.Time) (list []finding) {
	for _, r := range snap.Set().Budgets().Rows() {
		if r.RetryAfter == 0 && r.Queued == 0 && !r.Refusing {
			continue
		}
		name := budgetWords(r)
		text := name + " is used up"
		if r.RetryAfter > 0 {
			text += " until " + printable.Clock(now.Add(r.RetryAfter+time.Second-1), now)
		}
		f := finding{key: name, severity: event.Warn, text: text, hint: "spread over more exits, or open fewer connections"}
		if r.Limits.Watch {
			f.hint = "the exchange publishes this limit, and may ban the exit; to enforce it: limits: published"
		}
		if r.Queued > 0 {
			f.text += fmt.Sprintf(", %d connections wait", r.Queued)
		}
		list = append(list, f)
	}
	return list
}

// budgetWords returns a budget's name: "okx websocket budget 300/5m at exit tokyo".
func budgetWords(r limit.Row) string {
	where := "of " + r.Budget.Exit // "pool asia"
	if !strings.HasPrefix(r.Budget.Exit, "pool ") {
		where = "at exit " + r.Budget.Exit
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s budget %s %s", r.Budget.Exchange, r.Budget.Kind, limitWords(r.Limits), where))
}
