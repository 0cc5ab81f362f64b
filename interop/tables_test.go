//go:build interop

package interop

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const clientsDocument = "docs/clients.md"

// table is one of the generated tables of docs/clients.md, between markers.
type table struct {
	name, head string
	rows       func(*client, map[cell]outcome) []string
}

var tables = []table{
	{"lines", "| client | documented form | SOCKS |\n|---|---|---|\n", (*client).lineRows},
	{"works", "| client | environment alone | documented form | SOCKS | `proxyd exec` |\n|---|---|---|---|---|\n", (*client).worksRows},
	{"refusals", "| client | 502 | 403 | 504 |\n|---|---|---|---|\n", (*client).refusalRows},
	{"outage", "| client | after an outage of 10 s |\n|---|---|\n", (*client).outageRows},
}

// kindNames are the kinds in the first cells of rows.
var kindNames = map[string]string{"rest": "REST", "websocket": "websocket"}

// rows returns a row for each kind that a client has; one for both where they are equal.
func (c *client) rows(cells func(kind string) []string) (list []string) {
	var kinds []string
	for _, kind := range []string{"rest", "websocket"} {
		if c.parts[kind] == "" && c.parts[kind+" line"] == "" {
			continue
		}
		row := strings.Join(cells(kind), " | ")
		if row == "" {
			continue
		}
		if len(list) > 0 && list[0] == row {
			kinds[0] += " and " + kindNames[kind]
			continue
		}
		kinds, list = append(kinds, kindNames[kind]), append(list, row)
	}
	for i, kind := range kinds {
		list[i] = fmt.Sprintf("| %s, %s | %s |\n", c.name, kind, list[i])
	}
	return list
}

// marked are the lines of a program that the documents show.
var marked = regexp.MustCompile(`(?m)^[ \t]*(.*?)[ \t]*(?:#|//) proxyd$`)

// shown returns the lines of a part that differ for proxyd.
func (c *client) shown(part string) string {
	var lines []string
	for _, m := range marked.FindAllStringSubmatch(c.parts[part], -1) {
		lines = append(lines, "`"+escaped(m[1])+"`")
	}
	text := strings.Join(lines, "<br>")
	if c.environ {
		return "environment and " + text
	}
	return text
}

func (c *client) lineRows(map[cell]outcome) []string {
	return c.rows(func(kind string) (cells []string) {
		for _, form := range []string{kind + " line", kind + " socks"} {
			switch {
			case c.missing[form] != "": // a program may show what comes of it all the same
				cells = append(cells, "no: "+escaped(c.missing[form]))
			case c.parts[form] != "":
				cells = append(cells, c.shown(form))
			case form == kind+" line":
				cells = append(cells, "environment")
			default:
				cells = append(cells, "–")
			}
		}
		return cells
	})
}

func (c *client) worksRows(outcomes map[cell]outcome) []string {
	return c.rows(func(kind string) (cells []string) {
		for _, column := range []string{"environment", "line", "socks", "exec"} {
			o := outcomes[cell{c.id, kind, column}]
			if part, _ := c.program(kind, column); column == "line" && part == kind {
				o = outcomes[cell{c.id, kind, "environment"}]
			}
			cells = append(cells, cmp.Or(o.Outcome, "–"))
		}
		return cells
	})
}

func (c *client) refusalRows(outcomes map[cell]outcome) []string {
	return c.rows(func(kind string) (cells []string) {
		if part, _ := c.program(kind, refusals[0]); part == "" {
			return nil
		}
		for _, column := range refusals {
			o := outcomes[cell{c.id, kind, column}]
			text := o.Outcome
			switch {
			case text == fails && o.Error == "":
				text = "nothing"
			case text == fails:
				text = quoted(o.Error)
			case text == tries && o.Error != "":
				text += ": " + quoted(o.Error)
			}
			cells = append(cells, text)
		}
		return cells
	})
}

func (c *client) outageRows(outcomes map[cell]outcome) []string {
	o, ok := outcomes[cell{c.id, "websocket", "outage"}]
	if !ok {
		return nil
	}
	text := o.Outcome
	if o.Outcome == ends {
		text += ": " + quoted(o.Error)
	}
	return []string{fmt.Sprintf("| %s | %s |\n", c.name, text)}
}

// quoted returns a line of a program as code in a cell.
func quoted(line string) string { return "`" + escaped(strings.ReplaceAll(line, "`", "'")) + "`" }

func escaped(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// compareTables holds docs/clients.md to what was seen of the clients in ran; the
// rows of all others stay. UPDATE=1 writes the file instead.
func compareTables(t *testing.T, all, ran []*client, outcomes map[cell]outcome) {
	t.Helper()
	before := readFile(t, clientsDocument)
	after := before
	for _, table := range tables {
		begin, end := "<!-- begin "+table.name+", by make clients -->\n", "<!-- end "+table.name+" -->\n"
		head, rest, ok := strings.Cut(after, begin)
		old, tail, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Errorf("%s: no markers %s", clientsDocument, begin)
			continue
		}
		text := "\n" + table.head
		for _, c := range all {
			if slices.Contains(ran, c) {
				text += strings.Join(table.rows(c, outcomes), "")
			} else {
				text += rowsOf(old, c)
			}
		}
		after = head + begin + text + "\n" + end + tail
		run(t, "table "+table.name+" of "+clientsDocument, func(t *testing.T) {
			for _, d := range differences(old, text+"\n", os.Getenv("UPDATE") != "") {
				t.Error(d)
			}
		})
	}
	for _, o := range outcomes {
		if o.Outcome == notRun {
			return // and has failed
		}
	}
	if os.Getenv("UPDATE") != "" && after != before {
		if err := os.WriteFile(clientsDocument, []byte(after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// rowsOf returns the rows that a table has of a client, each once.
func rowsOf(text string, c *client) (rows string) {
	own := regexp.MustCompile(`^\| ` + regexp.QuoteMeta(c.name) + `(, (REST|websocket|REST and websocket))? \|`)
	for line := range strings.Lines(text) {
		if first := own.FindString(line); first != "" && !strings.Contains(rows, first) {
			rows += line
		}
	}
	return rows
}

// differences returns each row that is not the same in both, or not as often, and
// those with a cell that is too long. With update, only the latter.
func differences(old, text string, update bool) (list []string) {
	was, is := strings.Split(old, "\n"), strings.Split(text, "\n")
	more := map[string]int{} // how often a line is in text more than in old
	for _, line := range is {
		more[line]++
		for cell := range strings.SplitSeq(strings.ReplaceAll(line, `\|`, "/"), "|") {
			if n := utf8.RuneCountInString(strings.TrimSpace(cell)); n > 200 {
				list = append(list, fmt.Sprintf("a cell has %d characters: %s", n, cell))
			}
		}
	}
	if update {
		return list
	}
	for _, line := range was {
		if more[line]--; more[line] < 0 {
			list = append(list, "not what was seen (UPDATE=1 writes it)\n- "+line)
		}
	}
	for _, line := range is {
		if more[line] > 0 {
			more[line]--
			list = append(list, "not what was seen (UPDATE=1 writes it)\n+ "+line)
		}
	}
	if list == nil && old != text {
		list = append(list, "the rows are in another order (UPDATE=1 writes it)")
	}
	return list
}

// A row that is there twice, which a merge can bring, is a difference too.
func TestDifferences(t *testing.T) {
	const a, b = "| a | works |", "| b | fails |"
	for _, c := range []struct {
		old, text string
		update    bool
		want      int
	}{
		{a + "\n" + b, a + "\n" + b, false, 0},
		{a + "\n" + b, b + "\n" + a, false, 1},
		{a + "\n" + a + "\n" + b, a + "\n" + b, false, 1},
		{a, b, false, 2},
		{a, b, true, 0},
		{a, a + strings.Repeat("x", 201), true, 1},
	} {
		if got := differences(c.old, c.text, c.update); len(got) != c.want {
			t.Errorf("%q, %q: %d differences, want %d: %q", c.old, c.text, len(got), c.want, got)
		}
	}
}
