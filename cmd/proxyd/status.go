package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
	"proxyd/internal/printable"
)

// watchInterval is the interval of --watch.
const watchInterval = 2 * time.Second

func statusCommand() *cobra.Command {
	var watch, fleet bool
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the running daemon is doing, problems first",
		Long: `Show what the running daemon is doing. The first line is "ok", or names every
exchange that is lost, the worst first; other problems follow, a line each. Then come
the exchanges that are lost, with what to do, the feeds, and the upstreams.

DOWN/S is what the exchange sent in the last second, QUIET the time since its last
byte, FAIL/H the requests that failed in the last hour. An upstream's budget is LEFT
as connections that it would admit now; "watched": proxyd does not enforce it.

With --fleet it shows the whole fleet instead, as this host sees it: every process,
those to look at first, the shared budgets, and what exchanges have answered.

Exit code 0, or 1 if the daemon cannot be reached.`,
		Example: `  proxyd status
  proxyd status --watch
  proxyd status --fleet
  proxyd status --format json | jq .upstreams
  proxyd status --admin unix:/run/proxyd/admin.sock`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			client, err := adminClient(cmd)
			if err != nil {
				return err
			}
			if fleet {
				return showFleet(cmd, client, format)
			}
			if watch {
				ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
				defer stop()
				cmd.SetContext(ctx)
				return keepShowing(cmd, client, format)
			}
			return showStatus(cmd, client, format, false)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every 2 seconds, in place, until interrupted")
	cmd.Flags().BoolVar(&fleet, "fleet", false, "show all hosts of the fleet")
	cmd.MarkFlagsMutuallyExclusive("fleet", "watch")
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT`: text or json (with --watch: an object a line)")
	addAdminFlag(cmd)
	return cmd
}

// keepShowing prints the status until the context ends. It goes on while the daemon
// is unreachable, and prints that; but it does not begin then. On a terminal it draws
// over the last one, on the alternate screen.
func keepShowing(cmd *cobra.Command, client *admin.Client, format string) error {
	if _, err := askStatus(cmd, client); err != nil {
		return err
	}
	if file, ok := cmd.OutOrStdout().(*os.File); ok && terminal(file) && format != "json" {
		s := screen{out: file}
		s.enter()
		defer s.leave()
		return eachInterval(cmd, func() error { return s.draw(statusOrError(cmd, client)) })
	}
	return eachInterval(cmd, func() error {
		var unreachable *admin.UnreachableError
		err := showStatus(cmd, client, format, true)
		if errors.As(err, &unreachable) {
			fmt.Fprintln(cmd.ErrOrStderr(), "proxyd:", err)
			return nil
		}
		return err
	})
}

// eachInterval runs show now and at each interval, until the context ends.
func eachInterval(cmd *cobra.Command, show func() error) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if err := show(); err != nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

func askStatus(cmd *cobra.Command, client *admin.Client) (admin.Status, error) {
	ctx, cancel := withTimeout(cmd, requestTimeout)
	defer cancel()
	return client.Status(ctx)
}

// statusOrError returns what a terminal shows: the status, or why there is none.
func statusOrError(cmd *cobra.Command, client *admin.Client) func(width int) string {
	s, err := askStatus(cmd, client)
	return func(width int) string {
		v := statusView{layout: layout{width: width, colour: os.Getenv("NO_COLOR") == ""}, now: time.Now()}
		if err != nil {
			v.problem("proxyd: " + err.Error())
		} else {
			v.status(s)
		}
		return v.String()
	}
}

func showStatus(cmd *cobra.Command, client *admin.Client, format string, again bool) error {
	s, err := askStatus(cmd, client)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if format == "json" {
		if again {
			return json.NewEncoder(out).Encode(s)
		}
		return printJSON(out, s)
	}
	v := newStatusView(out)
	v.status(s)
	if again {
		v.line("")
	}
	_, err = io.WriteString(out, v.String())
	return err
}

func newStatusView(out io.Writer) *statusView {
	v := &statusView{layout: layout{width: defaultWidth}, now: time.Now()}
	if file, ok := out.(*os.File); ok && terminal(file) {
		v.colour = os.Getenv("NO_COLOR") == ""
		if width, _ := terminalSize(file); width > 0 {
			v.width = width
		}
	}
	return v
}

// showFleet prints the whole fleet.
func showFleet(cmd *cobra.Command, client *admin.Client, format string) error {
	ctx, cancel := withTimeout(cmd, requestTimeout)
	defer cancel()
	r, err := client.Fleet(ctx)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if format == "json" {
		return printJSON(out, r)
	}
	v := newStatusView(out)
	v.fleet(r)
	_, err = io.WriteString(out, v.String())
	return err
}

// fleet writes the whole fleet. The columns are as wide as the names: they are to be
// searched.
func (v *statusView) fleet(r admin.FleetReport) {
	v.now = r.Time
	v.line(r.Summary())
	g := grid{head: []string{"HOST", "STATE", "SEEN", "VERSION", "CONFIG", "PID"}, right: -1}
	for _, p := range r.WorstFirst() {
		colour, config := "", orDash(admin.ShortHash(p.Config))
		switch {
		case p.Gone, len(p.Lost) > 0:
			colour = red
		case p.Alone, p.ConfigDiffers:
			colour = yellow
		}
		if p.ConfigDiffers {
			config += " differs"
		}
		host := p.Host
		if p.Here {
			host += " (here)"
		}
		g.add(colour, host, p.State(), v.since(p.LastSeen), p.Version, config, fmt.Sprint(p.PID))
		if len(p.Lost) > 0 {
			g.note("lost: " + strings.Join(p.Lost, ", "))
		}
	}
	v.line("")
	v.grid(g)
	v.fleetBudgets(r)
}

// fleetBudgets writes what all hosts share: budgets and verdicts.
func (v *statusView) fleetBudgets(r admin.FleetReport) {
	if len(r.Budgets) > 0 {
		g := grid{head: []string{"EXIT", "EXCHANGE", "KIND", "LIMIT", "USED", "OPEN"}, right: 4}
		for _, b := range r.Budgets {
			g.add("", cutName(b.Exit, exchangeWidth), cutName(orDash(b.Exchange), exchangeWidth), orDash(b.Kind), b.Limit, fmt.Sprint(b.Used), fmt.Sprint(b.Open))
			switch old := v.now.Sub(b.Heard); {
			case b.Heard.IsZero():
				g.note("Redis has not said yet what of it is used")
			case old > 10*time.Second:
				g.note("as Redis said " + printable.Span(old) + " ago")
			case b.Differs:
				g.note("hosts have different limits: the smallest holds")
			}
		}
		v.line("")
		v.grid(g)
	}
	if len(r.Verdicts) > 0 {
		g := grid{head: []string{"EXIT", "EXCHANGE", "KIND", "VERDICT", "LEFT", "FROM"}, right: -1}
		for _, x := range r.Verdicts {
			g.add("", cutName(x.Exit, exchangeWidth), cutName(x.Exchange, exchangeWidth), x.Kind, x.Verdict, shortTime(x.Until.Sub(v.now)), x.From)
		}
		v.line("")
		v.grid(g)
	}
}

// What is shown without a terminal, and the least that a terminal is taken to have.
const (
	defaultWidth = 80
	leastWidth   = 40
)

// screen draws texts in place on a terminal's alternate screen: what was on it before
// comes back with leave.
type screen struct{ out *os.File }

func (s screen) enter() { _, _ = io.WriteString(s.out, "\x1b[?1049h\x1b[?25l") }
func (s screen) leave() { _, _ = io.WriteString(s.out, "\x1b[?25h\x1b[?1049l") }

// draw shows text(width) from the first line on, as much as there is room for. It
// writes over what is there, in one piece, so that nothing flickers.
func (s screen) draw(text func(width int) string) error {
	width, height := terminalSize(s.out)
	if width == 0 {
		width, height = defaultWidth, 24
	}
	_, err := io.WriteString(s.out, frame(text(max(width, leastWidth)), height))
	return err
}

// frame returns what puts a text on a screen of so many lines.
func frame(text string, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if height > 1 && len(lines) > height {
		lines = append(lines[:height-1], "... (more without --watch)")
	}
	return "\x1b[H" + strings.Join(lines, "\x1b[K\n") + "\x1b[K\x1b[J"
}

// layout collects lines of at most width columns, but for the problems: those are for
// searching and copying, and stay whole.
type layout struct {
	strings.Builder
	width  int
	colour bool
}

// The colours, of ECMA-48.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	grey   = "90"
	bold   = "1"
)

func (l *layout) paint(colour, text string) string {
	if !l.colour || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (l *layout) line(text string) { l.WriteString(text + "\n") }

func (l *layout) problem(text string) { l.line(l.paint(red, text)) }

// wrapped writes text behind a head, at most width columns wide.
func (l *layout) wrapped(head, text string) { l.wrappedIn("", head, text) }

func (l *layout) wrappedIn(colour, head, text string) {
	for _, part := range wrap(text, l.width-len(head)) {
		l.line(l.paint(colour, head+part))
		head = strings.Repeat(" ", len(head))
	}
}

// wrap cuts text at spaces, into parts of at most width bytes; a word that is longer
// is cut.
func wrap(text string, width int) (parts []string) {
	width = max(width, 20)
	for len(text) > width {
		at := strings.LastIndexByte(text[:width+1], ' ')
		if at <= 0 {
			parts, text = append(parts, text[:width]), text[width:]
			continue
		}
		parts, text = append(parts, text[:at]), text[at+1:]
	}
	return append(parts, text)
}

// grid is a table of short cells, with notes below rows.
type grid struct {
	head  []string
	right int // columns from this one on are aligned to the right; -1: none
	rows  []gridRow
}

type gridRow struct {
	colour string
	cells  []string
	note   string
}

func (g *grid) add(colour string, cells ...string) {
	g.rows = append(g.rows, gridRow{colour: colour, cells: cells})
}

// note adds words below the last row.
func (g *grid) note(text string) { g.rows[len(g.rows)-1].note = text }

// grid writes a table; what does not fit is wrapped in notes, and cut in rows.
func (l *layout) grid(g grid) {
	widths := make([]int, len(g.head))
	for i, cell := range g.head {
		widths[i] = len(cell)
		for _, r := range g.rows {
			widths[i] = max(widths[i], len(r.cells[i]))
		}
	}
	write := func(colour string, cells []string) {
		var b strings.Builder
		for i, cell := range cells {
			pad := strings.Repeat(" ", widths[i]-len(cell))
			switch {
			case g.right >= 0 && i >= g.right:
				b.WriteString(pad + cell)
			default:
				b.WriteString(cell + pad)
			}
			if i < len(cells)-1 {
				b.WriteByte(' ')
			}
		}
		line := strings.TrimRight(b.String(), " ")
		if len(line) > l.width {
			line = line[:l.width-3] + "..."
		}
		l.line(l.paint(colour, line))
	}
	write(bold, g.head)
	for _, r := range g.rows {
		write(r.colour, r.cells)
		if r.note != "" {
			l.wrapped("    ", r.note)
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
