// Command shape prints how the source is cut: files in a package, files with
// the methods of one type, short files, long functions, imports, and words.
// Tests are left out. It judges nothing.
//
//	go -C tools run ./shape
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "shape:", err)
		os.Exit(1)
	}
}

// source is what is counted over all files.
type source struct {
	lines      int
	files      map[string]int             // of a package
	methods    map[string]map[string]bool // type, with its package: the files of its methods
	short      []string                   // files under 40 lines
	long       []string                   // functions over 60 lines
	edges      map[string]map[string]bool // package: those of the project that it imports
	wayNames   map[string]bool
	comments   map[string]int // word: how often
	funcs      int            // with a comment
	usualForms int            // of them "X returns …", "X reports whether …"
	markdown   int            // the word in documents
}

func run() error {
	root, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return fmt.Errorf("git rev-parse: %w", err)
	}
	if err := os.Chdir(strings.TrimSpace(string(root))); err != nil {
		return err
	}
	list, err := exec.Command("git", "ls-files", "-z").Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	s := &source{
		files: map[string]int{}, methods: map[string]map[string]bool{}, edges: map[string]map[string]bool{},
		wayNames: map[string]bool{}, comments: map[string]int{},
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		switch {
		case strings.HasSuffix(name, ".md"):
			s.markdown += ways(string(text))
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "internal/testkit/"):
			if err := s.file(name, text); err != nil {
				return err
			}
		}
	}
	s.print()
	return nil
}

var (
	wayWord   = regexp.MustCompile(`(?i)\bways?\b`)
	inBoth    = regexp.MustCompile(`(?i)\bboth ways\b`)
	usualForm = regexp.MustCompile(`^\w+ (returns|reports whether)\b`)
	words     = map[string]*regexp.Regexp{
		"nobody, somebody":             regexp.MustCompile(`(?i)\b(nobody|somebody)\b`),
		"be called at once, by chance": regexp.MustCompile(`(?i)be called at once|by chance`),
	}
	buildTag = regexp.MustCompile(`(?m)^//go:build `)
	system   = regexp.MustCompile(`_(linux|darwin|windows|unix|other)\.go$`)
)

// ways counts the word, "both ways" aside.
func ways(text string) int {
	return len(wayWord.FindAllString(text, -1)) - len(inBoth.FindAllString(text, -1))
}

func (s *source) file(name string, text []byte) error {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, text, parser.ParseComments)
	if err != nil {
		return err
	}
	pkg, base := path.Dir(name), path.Base(name)
	n := bytes.Count(text, []byte("\n"))
	s.lines += n
	s.files[pkg]++
	if n < 40 && base != "doc.go" && base != "main.go" && !system.MatchString(base) && !buildTag.Match(text) {
		s.short = append(s.short, fmt.Sprintf("%s (%d)", name, n))
	}
	if s.edges[pkg] == nil {
		s.edges[pkg] = map[string]bool{}
	}
	for _, i := range f.Imports {
		if p, _ := strconv.Unquote(i.Path.Value); strings.HasPrefix(p, "proxyd/") {
			s.edges[pkg][p] = true
		}
	}
	for _, group := range f.Comments {
		text := group.Text()
		s.comments["way"] += ways(text)
		for word, re := range words {
			s.comments[word] += len(re.FindAllString(text, -1))
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && strings.Contains(id.Name, "Way") {
			s.wayNames[id.Name] = true
		}
		return true
	})
	for _, decl := range f.Decls {
		if d, ok := decl.(*ast.FuncDecl); ok {
			s.function(set, pkg, base, d)
		}
	}
	return nil
}

func (s *source) function(set *token.FileSet, pkg, file string, d *ast.FuncDecl) {
	if n := set.Position(d.End()).Line - set.Position(d.Pos()).Line + 1; n > 60 {
		s.long = append(s.long, fmt.Sprintf("%s/%s %s (%d)", pkg, file, d.Name.Name, n))
	}
	if d.Doc != nil {
		s.funcs++
		if usualForm.MatchString(d.Doc.Text()) {
			s.usualForms++
		}
	}
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if index, ok := t.(*ast.IndexExpr); ok {
		t = index.X
	}
	if id, ok := t.(*ast.Ident); ok {
		key := pkg + "." + id.Name
		if s.methods[key] == nil {
			s.methods[key] = map[string]bool{}
		}
		s.methods[key][file] = true
	}
}

func (s *source) print() {
	edges := 0
	for _, to := range s.edges {
		edges += len(to)
	}
	fmt.Printf("source: %d lines, %d packages\n", s.lines, len(s.files))
	most("files in a package, at most", s.files)
	count := map[string]int{}
	for t, files := range s.methods {
		count[t] = len(files)
	}
	most("files with the methods of one type, at most", count)
	fmt.Printf("files under 40 lines: %d%s\n", len(s.short), names(s.short))
	fmt.Printf("functions over 60 lines: %d%s\n", len(s.long), names(s.long))
	fmt.Printf("imports of a package, mean: %.1f\n", float64(edges)/float64(len(s.files)))
	fmt.Printf("identifiers with Way: %d\n", len(s.wayNames))
	fmt.Printf("\"way\" in comments: %d; in documents: %d\n", s.comments["way"], s.markdown)
	for _, word := range slices.Sorted(func(yield func(string) bool) {
		for w := range words {
			if !yield(w) {
				return
			}
		}
	}) {
		fmt.Printf("%q in comments: %d\n", word, s.comments[word])
	}
	fmt.Printf("function comments \"X returns\", \"X reports whether\": %d of %d (%d %%)\n", s.usualForms, s.funcs, 100*s.usualForms/max(1, s.funcs))
}

// most prints the three largest counts.
func most(what string, count map[string]int) {
	keys := make([]string, 0, len(count))
	for k := range count {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(count[b]-count[a], strings.Compare(a, b)) })
	fmt.Printf("%s:", what)
	for _, k := range keys[:min(4, len(keys))] {
		fmt.Printf(" %d (%s)", count[k], k)
	}
	fmt.Println()
}

func names(list []string) string {
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return ": " + strings.Join(list, ", ")
}
