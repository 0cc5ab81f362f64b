package main

import (
	"io"
	"os"
	"strings"
)

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
func (v *statusView) grid(g grid) {
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
		if len(line) > v.width {
			line = line[:v.width-3] + "..."
		}
		v.line(v.paint(colour, line))
	}
	write(bold, g.head)
	for _, r := range g.rows {
		write(r.colour, r.cells)
		if r.note != "" {
			v.wrapped("    ", r.note)
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
