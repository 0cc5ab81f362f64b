package daemon

import (
	"fmt"
	"strings"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/limit"
	"proxyd/internal/metrics"
)

// nearlyUsed warns of a figure that an exchange publishes and nobody has set as
// a limit.
func (d *Daemon) nearlyUsed(r limit.Row) {
	d.log().Warn("budget nearly used up", zap.String("exchange", r.Budget.Exchange), zap.String("kind", r.Budget.Kind), zap.String("exit", r.Budget.Exit),
		zap.String("budget", limitWords(r.Limits)), zap.Int("left", r.Remaining),
		zap.String("next", "the exchange publishes this figure, and bans who is beyond it; to hold back: limits: published"))
}

func (d *Daemon) budgetMetrics() (rows []metrics.Budget) {
	for _, r := range d.snapshot.Load().Set().Budgets().Rows() {
		rows = append(rows, metrics.Budget{Exchange: r.Budget.Exchange, Kind: r.Budget.Kind, Exit: r.Budget.Exit, Remaining: r.Remaining, Refused: r.Refused})
	}
	return rows
}

func (d *Daemon) budgetRows() (rows []admin.Budget) {
	for _, r := range d.snapshot.Load().Set().Budgets().Rows() {
		rows = append(rows, admin.Budget{
			Exchange: r.Budget.Exchange, Kind: r.Budget.Kind, Exit: r.Budget.Exit, Limit: limitWords(r.Limits), Watched: r.Limits.Watch,
			Remaining: r.Remaining, Open: r.Open, Queued: r.Queued, Refused: r.Refused,
		})
	}
	return rows
}

// limitWords writes figures as a configuration does.
func limitWords(l limit.Limits) string {
	var words []string
	if l.Connects > 0 {
		per := l.Per.String()
		for _, zero := range []string{"m0s", "h0m"} { // 5m0s
			if strings.HasSuffix(per, zero) {
				per = strings.TrimSuffix(per, zero[1:])
			}
		}
		words = append(words, fmt.Sprintf("%d/%s", l.Connects, per))
	}
	if l.MaxConnections > 0 {
		words = append(words, fmt.Sprintf("%d open", l.MaxConnections))
	}
	return strings.Join(words, ", ")
}
