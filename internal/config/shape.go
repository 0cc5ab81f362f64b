package config

import (
	_ "embed"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"proxyd/internal/config/internal/raw"
)

// shaper checks a tree against the raw types, strictly, and turns it into the
// plain maps that viper decodes: every short spelling becomes its mapping, every
// alias its key. It remembers where each value stands.
type shaper struct {
	errs     Errors
	warnings Errors // of the environment
	at       map[string]position
	sum      [32]byte // SHA-256 of the file's text
	inBlock  bool     // the file is a pasted proxy block with keys of other programs beside it
}

var fileType = reflect.TypeFor[raw.File]()

// mayBeEmpty are the mappings that may be empty, which is the same as leaving
// them out.
var mayBeEmpty = map[reflect.Type]bool{fileType: true, reflect.TypeFor[raw.Outbounds](): true, reflect.TypeFor[raw.Exchange](): true}

// value returns one node in the shape of t, nil if it is not set.
func (s *shaper) value(n *node, t reflect.Type, path string) any {
	if n == nil || n.kind == null || len(s.errs) > maxErrors {
		return nil
	}
	if _, known := s.at[path]; !known {
		s.at[path] = n.at
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.structure(n, t, path)
	case reflect.Map:
		return s.table(n, t, path)
	case reflect.Slice:
		return s.slice(n, t, path)
	default:
		return s.scalar(n, t, path)
	}
}

func (s *shaper) structure(n *node, t reflect.Type, path string) any {
	fields := fieldsOf(t)
	n = inlinePool(n, fields)
	if n.kind != mapping {
		short, ok := fields[raw.Short]
		if !ok {
			s.fail(n, path, "must be a mapping, not "+n.what(), "write its keys below it: "+strings.Join(fieldNames(fields), ", "))
			return nil
		}
		if n.kind == list && short.Type.Kind() != reflect.Slice {
			s.fail(n, path, "must be text or a mapping, not a list", "")
			return nil
		}
		v := s.value(n, short.Type, path)
		if v == nil {
			return nil
		}
		return map[string]any{raw.Short: v}
	}
	if len(n.keys) == 0 && !mayBeEmpty[t] { // viper would take it as not written
		s.fail(n, path, "is an empty mapping", "remove it, or write its keys below it: "+strings.Join(fieldNames(fields), ", "))
		return nil
	}
	out := map[string]any{}
	for _, e := range n.keys {
		if len(s.errs) > maxErrors {
			break
		}
		key, at := e.key, e.at
		f, ok := fields[key]
		if !ok {
			if real := aliasOf(fields, key); real != "" {
				if n.child(real) != nil && at.pasted {
					continue // as in cryptofeed
				}
				if n.child(real) != nil {
					s.errs = append(s.errs, at.error(join(path, key), "is the same as "+real+", which is set too", "keep one of the two"))
					continue
				}
				key, f, ok = real, fields[real], true
			}
		}
		if !ok {
			s.unknown(at, path, key, e.val, fields)
			continue
		}
		s.at[join(path, key)] = keyPlace(at, e.val)
		if v := s.value(e.val, f.Type, join(path, strings.TrimPrefix(key, raw.Short))); v != nil {
			if key == raw.Short {
				s.at[path] = e.val.at
			}
			s.enum(e.val, f, join(path, key), v)
			out[key] = v
		}
	}
	return out
}

// inlinePool turns a list of members where an outbound is expected into the
// mapping that it is short for: {pool: {proxies: [...]}}.
func inlinePool(n *node, fields map[string]reflect.StructField) *node {
	below := func(key string, n *node) *node {
		return &node{kind: mapping, at: n.at, keys: []entry{{key, n.at, n}}}
	}
	short := fields[raw.Short].Type
	if n.kind != list || short == nil || structOf(short) != nil || short.Kind() == reflect.Slice {
		return n
	}
	if _, ok := fields["proxies"]; ok {
		return below("proxies", n)
	}
	if _, ok := fields["pool"]; ok {
		return below("pool", below("proxies", n))
	}
	return n
}

// nameItself, appended to a path that ends in a name of the user's, stands for
// the position of the name, not of its value.
const nameItself = "#"

// keyPlace returns where an error about a key's value is shown: at the value,
// or at the key if the value has no single place.
func keyPlace(at position, val *node) position {
	if val == nil || val.kind == null || val.kind == mapping || val.kind == list {
		return at
	}
	return val.at
}

func (s *shaper) enum(n *node, f reflect.StructField, path string, v any) {
	allowed := f.Tag.Get("enum")
	text, ok := v.(string)
	if allowed == "" || !ok {
		return
	}
	words := strings.Split(allowed, ",")
	if slices.Contains(words, text) {
		return
	}
	s.fail(n, path, quoted(text)+" is not known here", "use one of "+strings.Join(words, ", ")+DidYouMean(text, words))
}

func (s *shaper) table(n *node, t reflect.Type, path string) any {
	if n.kind != mapping {
		s.fail(n, path, "must be a mapping of names, not "+n.what(), "")
		return nil
	}
	out := map[string]any{}
	for _, e := range n.keys {
		p := join(path, e.key)
		s.at[p] = keyPlace(e.at, e.val)
		s.at[p+nameItself] = e.at
		if !validName(e.key) {
			s.errs = append(s.errs, e.at.error(p, quoted(e.key)+" is not a name", "use letters, digits, and single . _ - between them"))
			continue
		}
		if v := s.value(e.val, t.Elem(), p); v != nil {
			out[e.key] = v
		}
	}
	return out
}

func (s *shaper) slice(n *node, t reflect.Type, path string) any {
	if n.kind != list {
		if n.kind == scalar && n.tag == "" && t.Elem().Kind() == reflect.String { // from the environment
			var out []any
			for part := range strings.SplitSeq(n.text, ",") {
				if part = strings.TrimSpace(part); part != "" {
					out = append(out, part)
				}
			}
			return out
		}
		if path == "listen" { // the one list that may be written as its only item
			if v := s.value(n, t.Elem(), path); v != nil {
				return []any{v}
			}
			return nil
		}
		s.fail(n, path, "must be a list, not "+n.what(), "write it as [a, b]")
		return nil
	}
	out := []any{}
	for i, item := range n.items {
		p := fmt.Sprintf("%s[%d]", path, i)
		if item.kind == null {
			s.fail(item, p, "is empty", "remove it or give it a value")
		}
		v := s.value(item, t.Elem(), p)
		if v == nil { // invalid: the next ones keep their number
			v = zeroItem(t.Elem())
		}
		out = append(out, v)
	}
	return out
}

// zeroItem returns an item without content.
func zeroItem(t reflect.Type) any {
	if t.Kind() == reflect.Struct {
		return map[string]any{}
	}
	return reflect.Zero(t).Interface()
}

func (s *shaper) scalar(n *node, t reflect.Type, path string) any {
	if n.kind != scalar {
		s.fail(n, path, "must be "+typeText(t)+", not "+n.what(), "")
		return nil
	}
	loose := n.tag == "" || n.at.pasted
	if n.at.pasted {
		n.text = strings.TrimSpace(n.text)
	}
	switch t.Kind() {
	case reflect.String:
		if n.tag == "" || n.tag == "!!str" {
			return n.text
		}
		s.fail(n, path, "must be text, not "+n.what(), "put it in quotes")
	case reflect.Bool:
		if v, err := strconv.ParseBool(n.text); err == nil && (n.tag == "" || n.tag == "!!bool") {
			return v
		}
		if v, ok := pastedBool[strings.ToLower(n.text)]; ok && n.at.pasted {
			return v
		}
		s.fail(n, path, "must be true or false, not "+n.what(), "write true or false, without quotes")
	case reflect.Int:
		if s.octal(n, path) {
			return nil
		}
		if v, ok := wholeNumber(n.text); ok && (loose || n.tag == "!!int" || n.tag == "!!float") {
			return v
		}
		s.fail(n, path, "must be a whole number, not "+n.number(), "")
	case reflect.Float64:
		if s.octal(n, path) {
			return nil
		}
		if v, err := strconv.ParseFloat(n.text, 64); err == nil && (loose || n.tag == "!!int" || n.tag == "!!float") && v == v && v < 1e12 && v > -1e12 {
			return v
		}
		hint := ""
		if strings.HasSuffix(path, "_seconds") {
			hint = "write seconds as a plain number, such as 4 or 0.5"
		}
		s.fail(n, path, "must be a number, not "+n.number(), hint)
	}
	return nil
}

// pastedBool is what cryptofeed takes for true or false, in YAML 1.1 or in text.
var pastedBool = map[string]bool{"true": true, "t": true, "yes": true, "y": true, "on": true, "1": true, "false": false, "f": false, "no": false, "n": false, "off": false, "0": false}

// wholeNumber parses an integer; 3.0 is one too, as in a JSON schema.
func wholeNumber(text string) (int, bool) {
	if v, err := strconv.Atoi(text); err == nil {
		return v, true
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v != math.Trunc(v) || math.Abs(v) > math.MaxInt32 {
		return 0, false
	}
	return int(v), true
}

var leadingZero = regexp.MustCompile(`^[-+]?0[0-9_]+$`)

// octal refuses a number that begins with a zero: it is octal in YAML 1.1 but
// not in YAML 1.2.
func (s *shaper) octal(n *node, path string) bool {
	if !leadingZero.MatchString(n.text) {
		return false
	}
	s.fail(n, path, "begins with a zero: 0777 is 511 in YAML 1.1, and 777 in YAML 1.2", "write the number without it")
	return true
}

func typeText(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return "text"
}

func (s *shaper) fail(n *node, path, what, hint string) {
	s.errs = append(s.errs, n.at.error(path, what, hint))
}

// fieldsOf returns the fields of a raw type by key, those of embedded types
// included.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	out := map[string]reflect.StructField{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		if option == "squash" {
			for k, v := range fieldsOf(f.Type) {
				out[k] = v
			}
			continue
		}
		out[name] = f
	}
	return out
}

func hasField(t reflect.Type, key string) bool {
	_, ok := fieldsOf(t)[key]
	return ok
}

// structOf returns the struct behind pointers, nil if there is none.
func structOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	return t
}

func fieldNames(fields map[string]reflect.StructField) []string {
	var list []string
	for name := range fields {
		if name != raw.Short {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func aliasOf(fields map[string]reflect.StructField, key string) string {
	for name, f := range fields {
		if key != "" && f.Tag.Get("alias") == key {
			return name
		}
	}
	return ""
}

//go:generate go run ./gen

//go:embed schema.json
var schemaJSON []byte

// Schema returns the JSON schema of the configuration file. It is generated
// from the types that the file is decoded into.
func Schema() []byte { return schemaJSON }
