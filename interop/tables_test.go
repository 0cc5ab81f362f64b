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
	seen       bool // they have what runs saw; else the clients' files say all
}

var tables = []table{
	{"lines", "| client | documented form | SOCKS |\n|---|---|---|\n", (*client).lineRows, false},
	{"works", "| client | environment alone | documented form | SOCKS | `proxyd exec` | with `--isolate` |\n|---|---|---|---|---|---|\n", (*client).worksRows, true},
	{"refusals", "| client | 502 | 403 | 504 |\n|---|---|---|---|\n", (*client).refusalRows, true},
	{"outage", "| client | after an outage of 10 s |\n|---|---|\n", (*client).outageRows, true},
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
		for _, column := range []string{"environment", "line", "socks", "exec", "isolate"} {
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
	if c.parts["feed"] == "" {
		return nil
	}
	o := outcomes[cell{c.id, "websocket", "outage"}]
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
// rows of all others must be there, and stay. UPDATE=1 writes the file instead.
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
		var missing []string
		for _, c := range all {
			rows := strings.Join(table.rows(c, outcomes), "")
			if table.seen && !slices.Contains(ran, c) {
				want := kindsIn(rows, c)
				if rows = rowsOf(old, c); !slices.Equal(kindsIn(rows, c), want) {
					missing = append(missing, c.name)
				}
			}
			text += rows
		}
		after = head + begin + text + "\n" + end + tail
		run(t, "table "+table.name+" of "+clientsDocument, func(t *testing.T) {
			if missing != nil {
				t.Errorf("rows are missing of clients that have not run (UPDATE=1 make clients-all writes them): %s", strings.Join(missing, ", "))
			}
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

// firstCell returns a pattern of the first cell that rows of a client have; its group
// are the kinds.
func firstCell(c *client) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(c.name) + `(?:, (REST|websocket|REST and websocket))? \|`)
}

// rowsOf returns the rows that a table has of a client, each once.
func rowsOf(text string, c *client) (rows string) {
	own := firstCell(c)
	for line := range strings.Lines(text) {
		if first := own.FindString(line); first != "" && !strings.Contains(rows, first) {
			rows += line
		}
	}
	return rows
}

// kindsIn returns the kinds that rows of a client are about, in order.
func kindsIn(rows string, c *client) (kinds []string) {
	for _, m := range firstCell(c).FindAllStringSubmatch(rows, -1) {
		kinds = append(kinds, strings.Split(m[1], " and ")...)
	}
	slices.Sort(kinds)
	return kinds
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

// A client that has not run keeps its rows; one that is missing is seen, also where
// the kinds share a row or not.
func TestRowsOfClientsThatHaveNotRun(t *testing.T) {
	c := &client{name: "a 1.0 (b)", parts: map[string]string{"rest": "x", "websocket": "x", "feed": "x"}}
	const other = "| a 1.0 (b) and more, REST | works |\n"
	for _, tt := range []struct {
		text string
		rows func(*client, map[cell]outcome) []string
		want bool
	}{
		{other + "| a 1.0 (b), REST | works |\n| a 1.0 (b), websocket | fails |\n", (*client).worksRows, true},
		{other + "| a 1.0 (b), REST and websocket | works |\n", (*client).worksRows, true},
		{other + "| a 1.0 (b), REST | works |\n", (*client).worksRows, false},
		{other, (*client).refusalRows, false},
		{other + "| a 1.0 (b) | goes on by itself |\n", (*client).outageRows, true},
		{other, (*client).outageRows, false},
	} {
		got := slices.Equal(kindsIn(rowsOf(tt.text, c), c), kindsIn(strings.Join(tt.rows(c, nil), ""), c))
		if got != tt.want {
			t.Errorf("%q: all rows: %v", tt.text, got)
		}
	}
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
