package daemon

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/limit"
	"proxyd/internal/printable"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// listenerRow returns the row of a listener. redirected is when the last connection came
// to a transparent one, in Unix nanoseconds; 0 if none has.
func listenerRow(l config.Listener, b boundListener, redirected int64) admin.Listener {
	row := admin.Listener{Address: l.Address, Reach: audience(l, b.ln.Addr()), Transparent: l.Transparent}
	if l.Transparent && redirected != 0 {
		last := time.Unix(0, redirected)
		row.LastConnection = &last
	}
	if bound := b.ln.Addr().String(); bound != l.Address {
		row.Bound = bound
	}
	if l.Use != nil {
		row.Use = useWord(*l.Use)
	}
	if l.Kind != 0 {
		row.Kind = l.Kind.String()
	}
	return row
}

func useWord(w config.Outbound) string {
	switch w.Action {
	case config.Direct:
		return "direct"
	case config.Reject:
		return "reject"
	}
	return w.Pool
}

func upstreamRows(snap *router.Router) []admin.Upstream {
	pools, exits := map[string][]string{}, map[string][]string{}
	for _, p := range snap.Config().Pools {
		for _, m := range snap.Set().Pool(p.Name).Members() {
			pools[m.Name()] = append(pools[m.Name()], p.Name)
			if !slices.Contains(exits[m.Name()], m.Exit) {
				exits[m.Name()] = append(exits[m.Name()], m.Exit)
			}
		}
	}
	var rows []admin.Upstream
	for _, u := range snap.Set().Upstreams() {
		row := upstreamRow(u.Status(), append([]string{}, pools[u.Name()]...))
		row.Exits = exits[u.Name()]
		rows = append(rows, row)
	}
	return rows
}

func upstreamRow(s upstream.Status, pools []string) admin.Upstream {
	row := admin.Upstream{Name: s.Name, URL: s.URL, Pools: pools, Tunnels: s.Live, Dials: int64(s.Connects), CertificateExpires: s.CertificateExpires} //nolint:gosec // a count
	for _, n := range s.Failures {
		row.Failures += int64(n) //nolint:gosec // a count
	}
	words := ejectionWords(s.Ejection)
	row.Drained = s.Drained
	if e := s.Ejection; e != nil {
		row.Ejection = &admin.Ejection{Cause: string(e.Cause), Since: e.Since, Until: e.Until, Last: e.Last}
	}
	if s.Drained {
		words = append(words, "drained")
	}
	row.Bad = len(words) > 0
	var drained, slow []string
	for _, p := range s.Pairs {
		if p.Drained && !slices.Contains(drained, p.Exchange) {
			drained = append(drained, p.Exchange)
		}
		if p.Degraded != nil {
			slow = append(slow, slowWords(p))
		}
		row.Pairs = append(row.Pairs, admin.Pair{
			Exchange: p.Exchange, Kind: p.Kind, Tunnels: p.Live, DialMS: p.LatencyMS, Degraded: p.Degraded != nil, Drained: p.Drained,
		})
		if p.Verdict == nil || !p.Holds {
			continue
		}
		v := admin.Verdict{Exchange: p.Exchange, Kind: p.Kind, Verdict: string(p.Verdict.Word), Since: p.Verdict.Since, From: p.Verdict.From}
		if !p.Verdict.Until.IsZero() {
			v.Until = &p.Verdict.Until
		}
		row.Verdicts = append(row.Verdicts, v)
	}
	if len(slow) > 0 {
		words = append(words, "degraded for "+strings.Join(slow, ", "))
	}
	if len(drained) > 0 {
		words = append(words, "drained for "+strings.Join(drained, ", "))
	}
	row.State = strings.Join(words, ", ")
	return row
}

// audience returns who may use a listener.
func audience(l config.Listener, at net.Addr) string {
	tcp, ok := at.(*net.TCPAddr)
	who := "any host that can reach it"
	if ok && tcp.IP.IsLoopback() {
		who = "this machine only"
	}
	var need []string
	if l.Transparent {
		need = append(need, "for redirected connections")
	}
	if len(l.Allow) > 0 {
		nets := make([]string, len(l.Allow))
		for i, p := range l.Allow {
			nets[i] = p.String()
		}
		need = append(need, "from "+strings.Join(nets, ", "))
	}
	if len(l.Users) > 0 {
		need = append(need, "with a password")
	}
	if len(need) == 0 {
		return who
	}
	return who + ", " + strings.Join(need, ", ")
}

func budgetRows(snap *router.Router) (rows []admin.Budget) {
	for _, r := range snap.Set().Budgets().Rows() {
		shared := ""
		if r.Share != nil {
			shared = r.Share.String()
		}
		rows = append(rows, admin.Budget{
			Shared:   shared,
			Exchange: r.Budget.Exchange, Kind: r.Budget.Kind, Exit: r.Budget.Exit, Limit: limitWords(r.Limits), Whole: wholeWords(r.Limits), Watched: r.Limits.Watch,
			Remaining: r.Remaining, Open: r.Open, Queued: r.Queued, Refused: r.Refused,
		})
	}
	return rows
}

// limitWords returns limits as a configuration writes them.
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

// wholeWords returns the limits of all hosts together, "" where this host's are not a part
// of them.
func wholeWords(l limit.Limits) string {
	return limitWords(limit.Limits{Connects: l.Whole.Connects, Per: l.Per, MaxConnections: l.Whole.MaxConnections})
}

// outlook returns why a member is not, or not first, chosen for a target, "" if
// nothing is against it.
func outlook(p *upstream.Pool, m upstream.Member, t upstream.Target) string {
	var words []string
	if !m.Enabled {
		words = append(words, "disabled")
	}
	if m.Drained(t.Exchange) {
		words = append(words, "drained")
	}
	s := m.Status()
	words = append(words, ejectionWords(s.Ejection)...)
	for _, p := range s.Pairs {
		if p.Degraded != nil && p.Exchange == t.Exchange && p.Kind == t.Kind.String() {
			words = append(words, "degraded for "+slowWords(p))
		}
	}
	if v, ok := m.Verdict(t.Exchange, t.Kind); ok && v.Word != upstream.WordOK {
		text := string(v.Word)
		if v.Word == upstream.WordRateLimited {
			text += " (" + printable.Span(time.Until(v.Until)) + " left)"
		}
		words = append(words, text)
	}
	for _, r := range p.BudgetRows(m.Name(), t) {
		if !r.Limits.Watch || r.Remaining == 0 {
			words = append(words, r.String())
		}
	}
	return strings.Join(words, ", ")
}

func ejectionWords(e *upstream.Ejection) []string {
	if e == nil {
		return nil
	}
	end := "until a probe succeeds"
	if left := time.Until(e.Until); left > 0 {
		end = "at least " + printable.Span(left) + " left"
	}
	return []string{fmt.Sprintf("ejected (for %s, %s): %s", printable.Span(time.Since(e.Since)), end, e.Cause)}
}

// slowWords returns for what an upstream is degraded, why and for how long.
func slowWords(p upstream.PairStatus) string {
	to := "other hosts"
	if p.Exchange != "" {
		to = p.Exchange + " " + p.Kind
	}
	return fmt.Sprintf("%s (%s left; a dial took %.0f ms, usually %.0f ms)", to, printable.Span(time.Until(p.Degraded.Until)), p.Degraded.TookMS, p.Degraded.UsualMS)
}
