package main

import "strings"

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
