package daemon

import (
	"proxyd/internal/metrics"
	"proxyd/internal/router"
)

func upRows(snap *router.Router) (rows []metrics.Up) {
	for _, u := range snap.Set().Upstreams() {
		_, _, ejected := u.Ejected()
		rows = append(rows, metrics.Up{Upstream: u.Name(), Up: !ejected})
	}
	return rows
}

func verdictRows(snap *router.Router) (rows []metrics.Verdict) {
	for _, u := range snap.Set().Upstreams() {
		for _, v := range u.Verdicts() {
			if v.Holds {
				rows = append(rows, metrics.Verdict{Upstream: u.Name(), Exchange: v.Exchange, Kind: v.Kind.String(), Verdict: string(v.Verdict.Word)})
			}
		}
	}
	return rows
}

func shortRows(snap *router.Router) (rows []metrics.Short) {
	for _, u := range snap.Set().Upstreams() {
		for _, p := range u.Status().Pairs {
			if p.Short > 0 {
				rows = append(rows, metrics.Short{Exchange: p.Exchange, Kind: p.Kind, Upstream: u.Name(), Count: p.Short})
			}
		}
	}
	return rows
}

func budgetMetrics(snap *router.Router) (rows []metrics.Budget) {
	for _, r := range snap.Set().Budgets().Rows() {
		rows = append(rows, metrics.Budget{Exchange: r.Budget.Exchange, Kind: r.Budget.Kind, Exit: r.Budget.Exit, Remaining: r.Remaining, Refused: r.Refused})
	}
	return rows
}
