package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/health"
	"proxyd/internal/printable"
)

// probeRow is the result of one probe, as --format json prints it. A step that was
// not made has no time.
type probeRow struct {
	Upstream string     `json:"upstream"`
	URL      string     `json:"url"` // credentials masked
	Exchange string     `json:"exchange,omitempty"`
	Kind     string     `json:"kind,omitempty"`
	Verdict  string     `json:"verdict"`
	Text     string     `json:"text"`
	Hint     string     `json:"hint,omitempty"`
	Status   int        `json:"status,omitempty"`
	Until    *time.Time `json:"until,omitempty"` // no requests before
	Skipped  bool       `json:"skipped,omitempty"`
	ExitIP   string     `json:"exit_ip,omitempty"`
	DNS      *float64   `json:"dns_ms,omitempty"`
	TCP      *float64   `json:"tcp_ms,omitempty"`
	Proxy    *float64   `json:"proxy_ms,omitempty"`
	TLS      *float64   `json:"tls_ms,omitempty"`
	HTTP     *float64   `json:"http_ms,omitempty"`
	Upgrade  *float64   `json:"upgrade_ms,omitempty"`
	Message  *float64   `json:"message_ms,omitempty"`
	Total    float64    `json:"total_ms"`
}

func newProbeRow(name, url string) probeRow {
	return probeRow{Upstream: name, URL: url, Verdict: string(health.Unknown)}
}

// skip marks a pair that is not probed.
func (p *probeRow) skip(until time.Time) {
	p.Verdict, p.Skipped, p.Until = string(health.RateLimited), true, &until
	p.Text = "skipped: the running daemon knows that it is rate-limited until " + printable.Clock(until, time.Now())
}

// fill stores a result.
func (p *probeRow) fill(r health.Result) {
	p.Verdict, p.Text, p.Hint, p.Status, p.Total = string(r.Verdict), r.Text, r.Hint, r.Status, milliseconds(r.Took)
	if !r.Until.IsZero() {
		at := r.Until.Round(time.Second)
		p.Until = &at
	}
	for _, s := range r.Steps {
		if at := p.step(s.Name); at != nil {
			ms := milliseconds(s.Took)
			*at = &ms
		}
	}
}

func (p *probeRow) step(name string) **float64 {
	return map[string]**float64{
		health.StepDNS: &p.DNS, health.StepTCP: &p.TCP, health.StepProxy: &p.Proxy, health.StepTLS: &p.TLS,
		health.StepHTTP: &p.HTTP, health.StepUpgrade: &p.Upgrade, health.StepMessage: &p.Message,
	}[name]
}

func (p *probeRow) good() bool { return p.Verdict == string(health.OK) }

func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

// writeRows prints the rows. It returns errReported if one of them is not ok.
func (o *probeOptions) writeRows(cmd *cobra.Command, rows []probeRow) error {
	out := cmd.OutOrStdout()
	good := 0
	for i := range rows {
		if rows[i].good() {
			good++
		}
	}
	var err error
	switch {
	case o.ok:
		o.writePassed(out, rows)
	case o.format == "json":
		err = printJSON(out, rows)
	default:
		err = writeProbeRows(out, rows, o.exitIP != "")
	}
	o.announce("%d of %d ok", good, len(rows))
	if err == nil && good < len(rows) {
		err = errReported
	}
	return err
}

// writeProbeRows prints rows for people, then what to do about the bad ones.
func writeProbeRows(out io.Writer, rows []probeRow, exits bool) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	head := "UPSTREAM\tEXCHANGE\tKIND\tVERDICT"
	if exits {
		head = "UPSTREAM\tEXIT IP\tVERDICT"
	}
	fmt.Fprintln(w, head+"\tDNS\tTCP\tPROXY\tTLS\tHTTP\tUPGRADE\tMESSAGE\tms; WHAT WAS FOUND")
	for i := range rows {
		r := &rows[i]
		cells := []string{r.Upstream, r.Exchange, r.Kind, r.Verdict}
		if exits {
			cells = []string{r.Upstream, orDash(r.ExitIP), r.Verdict}
		}
		for _, ms := range []*float64{r.DNS, r.TCP, r.Proxy, r.TLS, r.HTTP, r.Upgrade, r.Message} {
			cells = append(cells, shortMS(ms))
		}
		text := r.Text
		if r.Until != nil && !r.Skipped {
			text += "; until " + printable.Clock(*r.Until, time.Now())
		}
		fmt.Fprintln(w, strings.Join(append(cells, text), "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	printed := map[string]bool{}
	for i := range rows {
		if line := rows[i].Upstream + ": " + rows[i].Hint; rows[i].Hint != "" && !printed[line] {
			printed[line] = true
			fmt.Fprintln(out, line)
		}
	}
	return nil
}

// shortMS returns a time in ms for people, with one decimal below ten.
func shortMS(ms *float64) string {
	switch {
	case ms == nil:
		return "-"
	case *ms < 9.95:
		return strconv.FormatFloat(*ms, 'f', 1, 64)
	}
	return strconv.FormatFloat(*ms, 'f', 0, 64)
}

// writePassed prints the proxies of the list that passed every probe, as the list
// has them. A JSON string is a YAML string too.
func (o *probeOptions) writePassed(out io.Writer, rows []probeRow) {
	bad := map[string]bool{}
	for i := range rows {
		bad[rows[i].Upstream] = bad[rows[i].Upstream] || !rows[i].good()
	}
	fmt.Fprintln(out, "proxies:")
	none := true
	for i, m := range o.snapshot.Set().Pool(listPool).Members() {
		if bad[m.Name()] {
			continue
		}
		none = false
		quoted, _ := json.Marshal(strings.ReplaceAll(o.listed[i], "${", "$${")) // cannot fail for a string
		fmt.Fprintf(out, "  - %s\n", quoted)
	}
	if none {
		fmt.Fprintln(out, "  []")
	}
}
