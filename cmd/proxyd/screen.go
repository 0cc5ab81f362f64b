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
