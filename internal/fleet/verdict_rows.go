package fleet

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"proxyd/internal/printable"
)

// boardText is what is said of a verdict in words.
type boardText struct {
	Host string `json:"host"`
	Text string `json:"text,omitempty"`
}

// parseBoard reads an answer that was asked for at start. What stands in it was written
// by another process, and is not trusted: rows that are none are left out.
func parseBoard(v any, start time.Time) (rows []boardRow, id string, err error) {
	list, _ := v.([]any)
	if len(list) != 2 {
		return nil, "", errReply
	}
	id, _ = list[0].(string)
	all, ok := list[1].([]any)
	if !ok || id == "" || len(all) > mostAnswers {
		return nil, "", errReply
	}
	for _, x := range all {
		r, ok := parseRow(x, start)
		if !ok {
			r = boardRow{posted: posted{Verdict: Verdict{Word: withdrawn}}} // so that its version counts
		}
		if fields, _ := x.([]any); len(fields) == 4 {
			r.version, _ = fields[2].(string)
		}
		rows = append(rows, r)
	}
	return rows, id, nil
}

func parseRow(x any, start time.Time) (r boardRow, ok bool) {
	fields, _ := x.([]any)
	if len(fields) != 4 {
		return r, false
	}
	name, _ := fields[0].(string)
	value, _ := fields[1].(string)
	left, _ := fields[3].(int64)
	parts := strings.Split(name, "|")
	said := strings.SplitN(value, " ", 3)
	if len(parts) != 3 || len(said) != 3 || len(name) > nameLength || len(value) > 4*nameLength || !isPrintable(name) {
		return r, false
	}
	var text boardText
	if json.Unmarshal([]byte(said[2]), &text) != nil {
		return r, false
	}
	r.pair = pair{parts[0], parts[1], parts[2]}
	r.process = said[0]
	r.Verdict = Verdict{
		Exit: parts[0], Exchange: parts[1], Kind: parts[2], Word: said[1], Text: printable.Clean(text.Text, textLength), Host: hostName(text.Host),
		Until: start.Add(time.Duration(min(max(left, 0), longestHold.Microseconds())) * time.Microsecond),
	}
	switch r.Word {
	case "geoblocked", "rate_limited", "blocked":
		return r, r.Exchange != "" && (r.Kind == "http" || r.Kind == "websocket")
	case Ejected:
		return r, r.Exchange == "" && r.Kind == ""
	}
	return r, r.Word == withdrawn
}

// hostName returns another host's name, fit for a text.
func hostName(s string) string {
	if s = printable.Clean(s, 64); s == "" {
		return "unknown"
	}
	return s
}

// isPrintable reports whether a name, which may have letters of any script, is fit for
// a line.
func isPrintable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
