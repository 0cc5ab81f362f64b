package e2e

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// shape is what JSON values are made of: the types at each path, such as
// "upstreams[].name".
type shape map[string]map[string]bool

func shapeOf(t testing.TB, texts ...string) shape {
	t.Helper()
	s := shape{}
	for _, text := range texts {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("not JSON: %v\n%s", err, text)
		}
		s.add("", v)
	}
	return s
}

func (s shape) add(path string, v any) {
	kind := ""
	switch v := v.(type) {
	case map[string]any:
		kind = "object"
		for k, field := range v {
			s.add(strings.TrimPrefix(path+"."+k, "."), field)
		}
	case []any:
		kind = "list"
		for _, e := range v {
			s.add(path+"[]", e)
		}
	case string:
		kind = "text"
		if _, err := time.Parse(time.RFC3339Nano, v); err == nil {
			kind = "time"
		}
	case nil:
		kind = "null"
	default:
		kind = fmt.Sprintf("%T", v)
	}
	if s[path] == nil {
		s[path] = map[string]bool{}
	}
	s[path][kind] = true
}

// words returns the texts at each path.
func wordsOf(path string, v any, into map[string][]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, field := range v {
			wordsOf(strings.TrimPrefix(path+"."+k, "."), field, into)
		}
	case []any:
		for _, e := range v {
			wordsOf(path+"[]", e, into)
		}
	case string:
		into[path] = append(into[path], v)
	}
}

// fields are the paths that a type can have in JSON, each with the Go type.
func fields(path string, t reflect.Type, into map[string]reflect.Type) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	into[path] = t
	switch {
	case t == reflect.TypeFor[time.Time]():
	case t.Kind() == reflect.Slice:
		fields(path+"[]", t.Elem(), into)
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "-" || !f.IsExported() && !f.Anonymous:
			case f.Anonymous && name == "":
				fields(path, f.Type, into)
			default:
				fields(strings.TrimPrefix(path+"."+name, "."), f.Type, into)
			}
		}
	}
}

// enumeration returns the constants of a type of the project that is a text; nil for
// any other type.
func enumeration(t testing.TB, of reflect.Type) (list []string) {
	t.Helper()
	pkg, ours := strings.CutPrefix(of.PkgPath(), "proxyd/")
	if of.Kind() != reflect.String || !ours {
		return nil
	}
	files, err := filepath.Glob("../" + pkg + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			c, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if id, ok := c.Type.(*ast.Ident); !ok || id.Name != of.Name() {
				return true
			}
			for _, v := range c.Values {
				if text, ok := v.(*ast.BasicLit); ok {
					list = append(list, strings.Trim(text.Value, `"`))
				}
			}
			return true
		})
	}
	if len(list) == 0 {
		t.Errorf("%v has no constants", of)
	}
	return list
}

// compareShapes reports what an example has that no answer has, what an answer has
// that neither the example nor the list of what is left out has, and other types.
func compareShapes(example, answers shape, leftOut []string) (wrong []string) {
	out := func(path string) bool {
		return slices.ContainsFunc(leftOut, func(l string) bool {
			return path == l || strings.HasPrefix(path, l+".") || strings.HasPrefix(path, l+"[")
		})
	}
	for path, kinds := range example {
		real := answers[path]
		if real == nil {
			wrong = append(wrong, fmt.Sprintf("%q is in the example and in no answer", path))
		}
		for k := range kinds {
			if real != nil && !real[k] {
				wrong = append(wrong, fmt.Sprintf("%q is %s in the example, and in the answers %v", path, k, real))
			}
		}
		if out(path) {
			wrong = append(wrong, fmt.Sprintf("%q is in the example and among what is left out", path))
		}
	}
	for path := range answers {
		if example[path] == nil && !out(path) {
			wrong = append(wrong, fmt.Sprintf("%q is in an answer and not in the example", path))
		}
	}
	slices.Sort(wrong)
	return wrong
}
