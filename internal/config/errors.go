package config

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong, or, as a warning, that deserves attention.
type Error struct {
	File    string `json:"file,omitempty"` // "" when the place is an environment variable or the whole
	Line    int    `json:"line,omitempty"` // from 1; 0 when there is no line
	Col     int    `json:"column,omitempty"`
	Var     string `json:"env,omitempty"` // the environment variable that is wrong
	Key     string `json:"key,omitempty"` // key path, such as "exchanges.binance.http"
	Message string `json:"what"`          // what is wrong
	Hint    string `json:"do,omitempty"`  // what to do
}

// String returns "FILE:LINE:COL: key.path: message; hint".
func (f Error) String() string {
	var b strings.Builder
	switch {
	case f.Var != "":
		b.WriteString("env " + f.Var + ": ")
	case f.File != "" && f.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Col)
	case f.File != "":
		b.WriteString(f.File + ": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString("; " + f.Hint)
	}
	return b.String()
}

// Errors is everything that is wrong with a configuration, in file order.
type Errors []Error

// Error returns one error a line.
func (f Errors) Error() string {
	lines := make([]string, len(f))
	for i, x := range f {
		lines[i] = x.String()
	}
	return strings.Join(lines, "\n")
}
