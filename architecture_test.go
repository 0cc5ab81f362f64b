package proxyd_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const architecture = "docs/architecture.md"

// docs/architecture.md shows what each package imports, and says what it does.
func TestArchitectureDocumentMatchesImports(t *testing.T) {
	imports := imported(t)
	text := read(t, architecture)
	block := regexp.MustCompile("(?ms)^```imports\n(.*?)^```$")
	want := "```imports\n" + importLines(imports) + "```"
	if *update {
		text = block.ReplaceAllLiteralString(text, want)
		if err := os.WriteFile(architecture, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := block.FindString(text); got != want {
		t.Errorf("%s: the block of imports is out of date; run: go generate .\n%s", architecture, want)
	}
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:cmd|internal)/[a-z0-9]+)` \\|").FindAllStringSubmatch(text, -1) {
		rows[m[1]] = true
		if _, ok := imports[m[1]]; !ok && m[1] != "internal/testkit" {
			t.Errorf("%s has a row for %s, which is no package", architecture, m[1])
		}
	}
	for pkg := range imports {
		if !rows[pkg] {
			t.Errorf("%s has no row for %s: say in one line what the package does", architecture, pkg)
		}
	}
}

// imported returns the packages of cmd and internal, and which of these each of
// them imports outside its tests. Packages within a package are left out.
func imported(t *testing.T) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	files, err := filepath.Glob("internal/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	commands, err := filepath.Glob("cmd/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, commands...) {
		file = filepath.ToSlash(file)
		pkg := file[:strings.LastIndex(file, "/")]
		if strings.HasSuffix(file, "_test.go") || pkg == "internal/testkit" {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		list := imports[pkg]
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, ours := strings.CutPrefix(path, "proxyd/internal/")
			if ours && !strings.Contains(to, "/") && !slices.Contains(list, "internal/"+to) {
				list = append(list, "internal/"+to)
			}
		}
		imports[pkg] = list
	}
	return imports
}

// importLines returns a line for each package, each before those that it imports;
// those that import none are in the last one.
func importLines(imports map[string][]string) string {
	var depth func(pkg string) int
	depth = func(pkg string) (deepest int) {
		for _, to := range imports[pkg] {
			deepest = max(deepest, 1+depth(to))
		}
		return deepest
	}
	byDepth := func(a, b string) int { return cmp.Or(depth(b)-depth(a), cmp.Compare(a, b)) }
	var lines strings.Builder
	var leaves []string
	for _, pkg := range slices.SortedFunc(maps.Keys(imports), byDepth) {
		name := strings.TrimPrefix(pkg, "internal/")
		if len(imports[pkg]) == 0 {
			leaves = append(leaves, name)
			continue
		}
		fmt.Fprintf(&lines, "%-11s →", name)
		for _, to := range slices.SortedFunc(slices.Values(imports[pkg]), byDepth) {
			lines.WriteString(" " + strings.TrimPrefix(to, "internal/"))
		}
		lines.WriteString("\n")
	}
	lines.WriteString(strings.Join(leaves, " ") + "\n")
	return lines.String()
}

// docs/walkthrough.md and CONTRIBUTING.md name files, and what these declare.
func TestWalkthroughNamesWhatExists(t *testing.T) {
	declared := map[string]map[string]bool{}
	for doc, atLeast := range map[string]int{"docs/walkthrough.md": 40, "CONTRIBUTING.md": 5} {
		text := read(t, doc)
		named := regexp.MustCompile("`([a-z0-9_/]+\\.go): ([A-Za-z0-9_.]+)`").FindAllStringSubmatch(text, -1)
		if len(named) < atLeast {
			t.Errorf("%s names only %d", doc, len(named))
		}
		for _, m := range named {
			file, name := m[1], m[2]
			if declared[file] == nil {
				declared[file] = declarations(file)
			}
			if !declared[file][name] {
				t.Errorf("%s: there is no %s in %s; name the function that now does this, and its file", doc, name, file)
			}
		}
		for _, m := range regexp.MustCompile("`((?:internal|e2e|cmd|configs|docs)/[A-Za-z0-9_./]*)[`:]").FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(m[1]); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
	}
}

// declarations returns the types and functions of a file, methods as Type.Method;
// none if the file cannot be read.
func declarations(file string) map[string]bool {
	names := map[string]bool{}
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		return names
	}
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				recv := d.Recv.List[0].Type
				if star, ok := recv.(*ast.StarExpr); ok {
					recv = star.X
				}
				if id, ok := recv.(*ast.Ident); ok {
					name = id.Name + "." + name
				}
			}
			names[name] = true
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if s, ok := spec.(*ast.TypeSpec); ok {
					names[s.Name.Name] = true
				}
			}
		}
	}
	return names
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
