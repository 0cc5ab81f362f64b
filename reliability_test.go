package proxyd_test

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

//go:generate go test -run TestReliabilityDocumentListsThePromises|TestArchitectureDocumentMatchesImports -update .
//go:generate go test ./internal/metrics -run TestDocumentListsTheDeclarations -update

var update = flag.Bool("update", false, "write docs/reliability.md, and the imports in docs/architecture.md")

// A promise is a sentence in the doc comment of the test that holds it:
//
//	// Promise (data path): a client gets its answer however long the upstream took.
type promise struct {
	section, text, test, file string
}

var sections = []string{"data path", "plain HTTP", "routing", "security", "feeds"}

// about says what the promises of each section are about.
var about = map[string]string{
	"data path":  "A tunnel from the client to the exchange: its bytes, the answers to the client, failover, upgrades and limits.",
	"plain HTTP": "Requests without TLS, which proxyd reads and passes on one by one.",
	"routing":    "Where a connection goes, and what a changed file does to that. Nothing goes direct by accident.",
	"security":   "What proxyd keeps from clients, web pages, other machines and its own output.",
	"feeds":      "What an operator is shown: which exchange is lost or silent, since when and why.",
}

const reliabilityHead = `# Reliability

What proxyd promises, and the test that holds each promise. The tests use real sockets and real programs, on one machine.

This runs one of them:

` + "```sh\ngo test ./e2e -run 'TestKilledDaemon$' -v\n```" + `

The directory of a test is in its link. To add a promise, write it into the comment of its test, and run ` + "`go generate .`" + `
([CONTRIBUTING.md](../CONTRIBUTING.md)). This page is generated from these comments, and a test fails when it is out of date.

`

// title returns a section's title.
func title(section string) string { return strings.ToUpper(section[:1]) + section[1:] }

// docs/reliability.md lists what the tests promise, and nothing else.
func TestReliabilityDocumentListsThePromises(t *testing.T) {
	promises := findPromises(t)
	if len(promises) == 0 {
		t.Fatal("no test promises anything")
	}
	var b strings.Builder
	b.WriteString(reliabilityHead)
	for _, section := range sections {
		fmt.Fprintf(&b, "- [%s](#%s)\n", title(section), strings.ReplaceAll(strings.ToLower(section), " ", "-"))
	}
	for _, section := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| promise | test |\n| --- | --- |\n", title(section), about[section])
		for _, p := range promises {
			if p.section == section {
				fmt.Fprintf(&b, "| %s | [%s](../%s) |\n", p.text, p.test, p.file)
			}
		}
	}
	const file = "docs/reliability.md"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is not what the tests promise; run: go generate .", file)
	}
}

var promiseLine = regexp.MustCompile(`^Promise \(([^)]*)\): (.*)$`)

// findPromises returns the promises of all tests, by section, then text.
func findPromises(t *testing.T) (list []promise) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return cmp.Or(err, fs.SkipDir)
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Doc != nil && f.Recv == nil {
				list = append(list, promisesOf(t, f, filepath.ToSlash(path))...)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list, func(a, b promise) int {
		return cmp.Or(cmp.Compare(slices.Index(sections, a.section), slices.Index(sections, b.section)), cmp.Compare(a.text, b.text), cmp.Compare(a.test, b.test))
	})
	return list
}

// promisesOf returns those in the doc comment of f. Each goes on until an empty
// line, the next promise or the end of the comment.
func promisesOf(t *testing.T, f *ast.FuncDecl, file string) (list []promise) {
	t.Helper()
	open := false
	for line := range strings.SplitSeq(f.Doc.Text(), "\n") {
		line = strings.TrimSpace(line)
		m := promiseLine.FindStringSubmatch(line)
		switch {
		case m != nil:
			if !slices.Contains(sections, m[1]) {
				t.Errorf("%s: %s: there is no section %q; there are %q", file, f.Name.Name, m[1], sections)
			}
			list = append(list, promise{m[1], m[2], f.Name.Name, file})
			open = true
		case line == "":
			open = false
		case open:
			list[len(list)-1].text += " " + line
		}
	}
	for i, p := range list {
		text := strings.ToUpper(p.text[:1]) + strings.TrimSuffix(p.text[1:], ".")
		list[i].text = strings.ReplaceAll(text, "|", `\|`)
	}
	return list
}
