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
)

// probed is one probe's outcome, for programs. A step that was not made has no
// time.
type probed struct {
	Upstream string     `json:"upstream"`
	URL      string     `json:"url"` // credentials masked
	Exchange string     `json:"exchange,omitempty"`
	Kind     string     `json:"kind,omitempty"`
	Verdict  string     `json:"verdict"`
	Text     string     `json:"text"`
	Hint     string     `json:"hint,omitempty"`
	Status   int        `json:"status,omitempty"`
	Until    *time.Time `json:"until,omitempty"` // the exchange wants to be left alone
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

func rowOf(name, url string) probed {
	return probed{Upstream: name, URL: url, Verdict: string(health.Unknown)}
}

// skip marks a pair that is left alone.
func (p *probed) skip(until time.Time) {
	p.Verdict, p.Skipped, p.Until = string(health.RateLimited), true, &until
	p.Text = "not asked: the running daemon knows that it is rate-limited until " + clock(until, time.Now())
}

// fill takes a result in.
func (p *probed) fill(r health.Result) {
	p.Verdict, p.Text, p.Hint, p.Status, p.Total = string(r.Verdict), r.Text, r.Hint, r.Status, inMS(r.Took)
	if !r.Until.IsZero() {
		at := r.Until.Round(time.Second)
		p.Until = &at
	}
	for _, s := range r.Steps {
		if at := p.step(s.Name); at != nil {
			ms := inMS(s.Took)
			*at = &ms
		}
	}
}

func (p *probed) step(name string) **float64 {
	return map[string]**float64{
		health.StepDNS: &p.DNS, health.StepTCP: &p.TCP, health.StepProxy: &p.Proxy, health.StepTLS: &p.TLS,
		health.StepHTTP: &p.HTTP, health.StepUpgrade: &p.Upgrade, health.StepMessage: &p.Message,
	}[name]
}

// clock is a moment for people: its day too, where that is not today.
func clock(at, now time.Time) string {
	at = at.Local()
	if at.Format(time.DateOnly) == now.Local().Format(time.DateOnly) {
		return at.Format(time.TimeOnly)
	}
	return at.Format(time.DateTime)
}

func (p *probed) good() bool { return p.Verdict == string(health.OK) }

func inMS(d time.Duration) float64 { return math.Round(float64(d)/float64(time.Microsecond)) / 1000 }

// finish prints the rows, and makes those that are not ok exit code 1.
func (o *probeOptions) finish(cmd *cobra.Command, rows []probed) error {
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
		o.writeGood(out, rows)
	case o.format == "json":
		err = printJSON(out, rows)
	default:
		err = writeProbed(out, rows, o.exitIP != "")
	}
	o.announce("%d of %d ok", good, len(rows))
	if err == nil && good < len(rows) {
		err = errSilent
	}
	return err
}

// writeProbed prints rows for people, what to do about the bad ones below.
func writeProbed(out io.Writer, rows []probed, exits bool) error {
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
			text += "; until " + clock(*r.Until, time.Now())
		}
		fmt.Fprintln(w, strings.Join(append(cells, text), "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	said := map[string]bool{}
	for i := range rows {
		if line := rows[i].Upstream + ": " + rows[i].Hint; rows[i].Hint != "" && !said[line] {
			said[line] = true
			fmt.Fprintln(out, line)
		}
	}
	return nil
}

// shortMS is a time in ms for people: whole, but below ten one decimal.
func shortMS(ms *float64) string {
	switch {
	case ms == nil:
		return "-"
	case *ms < 9.95:
		return strconv.FormatFloat(*ms, 'f', 1, 64)
	}
	return strconv.FormatFloat(*ms, 'f', 0, 64)
}

// writeGood prints the proxies of the list for which everything was ok, as they
// stand in it. A JSON string is a YAML one too.
func (o *probeOptions) writeGood(out io.Writer, rows []probed) {
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
		quoted, _ := json.Marshal(strings.ReplaceAll(o.listed[i], "${", "$${")) // a string always can be
		fmt.Fprintf(out, "  - %s\n", quoted)
	}
	if none {
		fmt.Fprintln(out, "  []")
	}
}
