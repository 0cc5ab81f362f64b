package proxyd_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// longestCell is the most that a cell of a table may have, in characters. More
// belongs below the table.
const longestCell = 200

// dialect are words that a reader must not have to learn, or that are not plain
// English, with what to write instead.
var dialect = map[string]string{
	"nobody": "no client, no member, …", "somebody": "the client, the caller, …", "by chance": "at random", "told": "notified, shown",
	"figure": "number, limit", "figures": "numbers, limits", "fault": "error", "faults": "errors", "heed": "follow", "lest": "so that … not",
	"thereof": "of it", "hereby": "", "shall": "must", "whilst": "while", "amongst": "among", "hence": "so", "venues": "exchanges",
	"anew": "again", "cure": "repair", "cured": "repaired", "mend": "repair", "mended": "repaired", "midst": "middle", "mute": "silent",
	"merely": "only", "whom": "which client, which upstream, …", "likewise": "the same, also", "for ever": "without a limit", "in vain": "without success",
	"afresh": "again", "way": "form, method, path", "ways": "forms, methods, paths", "trouble": "problem", "venue": "exchange", "put in force": "apply",
	"moreover": "also", "whereby": "by which", "our": "the, proxyd's", "ours": "proxyd's",
	"wherein": "in which", "thereby": "so", "upon": "on", "albeit": "although", "notwithstanding": "despite", "forthwith": "immediately", "aforementioned": "",
	"simply": "", "obviously": "", "please": "", "utilize": "use", "leverage": "use", "seamless": "", "blazing": "",
}

// plainDocuments returns the documents that users read, by path.
func plainDocuments(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	if err != nil || len(files) < 8 {
		t.Fatalf("%v, %v", files, err)
	}
	texts := map[string]string{}
	for _, f := range append(files, "README.md", "SECURITY.md") {
		texts[f] = read(t, f)
	}
	return texts
}

var code = regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]+`")

func TestDocumentsAreInPlainWords(t *testing.T) {
	for file, text := range plainDocuments(t) {
		for word, instead := range wrongWords(text) {
			t.Errorf("%s: %q is on the list of words to avoid; write: %s", file, word, instead)
		}
	}
}

// wrongWords returns the words of a text that are on the list, code left out.
func wrongWords(text string) map[string]string {
	found := map[string]string{}
	prose := strings.ToLower(code.ReplaceAllString(text, "`"))
	for word, instead := range dialect {
		if regexp.MustCompile(`\b` + word + `\b`).MatchString(prose) {
			found[word] = instead
		}
	}
	return found
}

func TestTableCellsAreShort(t *testing.T) {
	for file, text := range plainDocuments(t) {
		for _, cell := range longCells(text) {
			t.Errorf("%s: a cell has %d characters, more than %d; put the rest below the table: %s", file, utf8.RuneCountInString(cell), longestCell, cell)
		}
	}
}

var fences = regexp.MustCompile("(?ms)^```.*?^```$")

// longCells returns the cells of a text's tables that are too long.
func longCells(text string) (long []string) {
	for line := range strings.Lines(fences.ReplaceAllString(text, "")) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		for cell := range strings.SplitSeq(strings.ReplaceAll(line, `\|`, "/"), "|") {
			if cell = strings.TrimSpace(cell); utf8.RuneCountInString(cell) > longestCell {
				long = append(long, cell)
			}
		}
	}
	return long
}

func TestWrongWordsAndLongCellsAreFound(t *testing.T) {
	text := "# A title\n\nNobody was told.\n\n| a | b |\n|---|---|\n| short | " + strings.Repeat("x", 201) + " |\n\n```text\n| lest | " + strings.Repeat("y", 300) + " |\n```\nThe field `faults`.\n"
	words := wrongWords(text)
	var got []string
	for w := range words {
		got = append(got, w)
	}
	slices.Sort(got)
	if want := []string{"nobody", "told"}; !slices.Equal(got, want) {
		t.Errorf("words: got %q, want %q", got, want)
	}
	if got := longCells(text); len(got) != 1 || got[0][0] != 'x' {
		t.Errorf("cells: got %q", got)
	}
}

var (
	links    = regexp.MustCompile(`\]\(([^)\s]*)\)`)
	headings = regexp.MustCompile(`(?m)^#{1,4} (.+)$`)
)

// anchors returns the anchors that GitHub gives to the headings of a text.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, h := range headings.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(h[1]) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				b.WriteRune(r)
			}
		}
		found[b.String()] = true
	}
	return found
}

// longDocument is the number of lines from which a document has a table of contents.
const longDocument = 150

// A long document begins with links to all of its sections.
func TestLongDocumentsHaveContents(t *testing.T) {
	section := regexp.MustCompile(`(?m)^## (.+)$`)
	held := 0
	for file, text := range plainDocuments(t) {
		if strings.Count(text, "\n") < longDocument {
			continue
		}
		text = fences.ReplaceAllString(text, "")
		contents, _, _ := strings.Cut(text, "\n## ")
		for anchor := range anchors(strings.Join(section.FindAllString(text, -1), "\n")) {
			held++
			if !strings.Contains(contents, "(#"+anchor+")") {
				t.Errorf("%s: its contents lack #%s", file, anchor)
			}
		}
	}
	if held < 50 {
		t.Errorf("only %d sections were found", held)
	}
}

// Every link of a document to a file or a heading of this repository leads to one.
func TestLinksBetweenDocumentsLead(t *testing.T) {
	followed := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && file != "." && (file == "bin" || file == "dist" || file[0] == '.') {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".md") {
			return err
		}
		text := read(t, file)
		for _, m := range links.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, ":") {
				continue
			}
			followed++
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: (%s) leads nowhere: %v", file, m[1], err)
			} else if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s: (%s): %s has no heading with that anchor", file, m[1], target)
			}
		}
		return nil
	})
	if err != nil || followed < 100 {
		t.Errorf("%v, and only %d links were followed", err, followed)
	}
}

func TestCodeInClientsDocumentIsThatWhichRuns(t *testing.T) {
	programs, err := filepath.Glob("interop/clients/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, p := range programs {
		all.WriteString(read(t, p))
	}
	blocks := regexp.MustCompile("(?s)```(?:go|rust|java)\n(.*?)```").FindAllStringSubmatch(read(t, "docs/clients.md"), -1)
	if len(blocks) == 0 {
		t.Error("docs/clients.md has no code of a compiled language: remove this test")
	}
	for _, b := range blocks {
		if !strings.Contains(all.String(), b[1]) {
			t.Errorf("docs/clients.md has code that no program of interop/clients has, so that it is never run:\n%s", b[1])
		}
	}
}

// CHANGELOG.md is in the form of Keep a Changelog: each entry stands once, below its
// subject, and is short.
func TestChangelogIsTidy(t *testing.T) {
	kinds := []string{"### Added", "### Changed", "### Deprecated", "### Removed", "### Fixed", "### Security"}
	here, entries, lines, subject := map[string]bool{}, map[string]bool{}, 0, false
	for i, line := range strings.Split(read(t, "CHANGELOG.md"), "\n") {
		wrong := func(what string) { t.Errorf("CHANGELOG.md:%d: %s: %s", i+1, what, line) }
		switch {
		case strings.HasPrefix(line, "## "):
			clear(here)
		case strings.HasPrefix(line, "### "):
			if subject = false; here[line] || !slices.Contains(kinds, line) {
				wrong("a heading that is there twice, or none of Keep a Changelog")
			}
			here[line] = true
		case strings.HasPrefix(line, "#### "):
			subject = true
		case strings.HasPrefix(line, "- "):
			if lines = 1; !subject || entries[line] || strings.HasPrefix(line, "- **Changed") {
				wrong("an entry without a subject above it, there twice, or under the wrong heading")
			}
			entries[line] = true
		case strings.HasPrefix(line, "  "):
			if lines++; lines > 2 {
				wrong("an entry of more than two lines")
			}
		}
		if utf8.RuneCountInString(line) > 150 {
			wrong("more than 150 characters")
		}
	}
	if len(entries) < 100 {
		t.Errorf("only %d entries", len(entries))
	}
}
