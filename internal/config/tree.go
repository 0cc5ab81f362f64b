package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	maxDepth  = 32
	maxValues = 600_000 // in a file; ten thousand proxies with every key have a third of that
	maxErrors = 1000    // more are counted
)

// position is where a value was written.
type position struct {
	file      string
	line, col int
	env       string
	pasted    bool // cryptofeed's: below proxy, or in a variable of its own
}

// error returns an error at the position.
func (p position) error(key, what, hint string) Error {
	if p.env != "" {
		return Error{Var: p.env, Key: key, Message: what, Hint: hint}
	}
	return Error{File: p.file, Line: p.line, Col: p.col, Key: key, Message: what, Hint: hint}
}

// location returns the position in parentheses, for a message about another
// one.
func (p position) location() string {
	switch {
	case p.env != "":
		return " (env " + p.env + ")"
	case p.line > 0:
		return fmt.Sprintf(" (line %d)", p.line)
	}
	return ""
}

// nodeKind is the shape of a node.
type nodeKind uint8

const (
	scalar nodeKind = iota + 1
	mapping
	list
	null
)

// node is a value of the file, of an environment variable, or of both laid
// over one another, and knows where it comes from.
type node struct {
	kind  nodeKind
	at    position
	tag   string // of a scalar: !!str, !!int, !!float, !!bool; "" from the environment: any that fits
	text  string
	keys  []entry
	items []*node
}

// entry is one key of a mapping, in lower case, and its value.
type entry struct {
	key string
	at  position
	val *node
}

func (n *node) child(key string) *node {
	for i := range n.keys {
		if n.keys[i].key == key {
			return n.keys[i].val
		}
	}
	return nil
}

func (n *node) set(key string, at position, val *node) {
	for i := range n.keys {
		if n.keys[i].key == key {
			n.keys[i].val = val
			return
		}
	}
	n.keys = append(n.keys, entry{key, at, val})
}

func (n *node) remove(key string) {
	for i := range n.keys {
		if n.keys[i].key == key {
			n.keys = append(n.keys[:i:i], n.keys[i+1:]...)
			return
		}
	}
}

// what returns a node's shape in words.
func (n *node) what() string {
	switch n.kind {
	case mapping:
		return "a mapping"
	case list:
		return "a list"
	case null:
		return "nothing"
	}
	switch n.tag {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a date"
	case "!!str", "": // "": from the environment
		return "text"
	}
	return "a value with a tag (remove the !word)"
}

// number returns a number as written, else what. Nothing else is quoted, since
// it may be secret.
func (n *node) number() string {
	if n.kind == scalar && (n.tag == "!!int" || n.tag == "!!float") {
		return n.text
	}
	return n.what()
}

// parse parses YAML into nodes. file is the name in errors.
func parse(file string, raw []byte) (*node, Errors) {
	if bad := checkText(file, raw); bad != nil {
		return nil, Errors{*bad}
	}
	if bad := foreignFile(file, raw); bad != nil {
		return nil, Errors{*bad}
	}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || (err == nil && len(doc.Content) == 0) {
		return nil, Errors{{File: file, Message: "is empty", Hint: "write at least one key, such as default: direct"}}
	}
	if err != nil {
		return nil, Errors{yamlError(file, err)}
	}
	p := &parser{file: file}
	root := p.node(&doc, "", 0)
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		p.errs = append(p.errs, Error{File: file, Line: second.Line, Col: 1, Message: "a second document begins here", Hint: "keep one document in the file"})
	} else if !errors.Is(err, io.EOF) {
		p.errs = append(p.errs, yamlError(file, err))
	}
	p.checkTruncated(&doc, raw)
	if root != nil && root.kind == null {
		p.errs = append(p.errs, Error{File: file, Message: "is empty", Hint: "write at least one key, such as default: direct"})
	} else if root != nil && root.kind != mapping {
		p.errs = append(p.errs, root.at.error("", "the file must be a mapping of keys, not "+root.what(), "begin with a key, such as default: direct"))
	}
	return root, p.errs
}

// yamlError turns "yaml: line 3: did not find …" into an Error. The parser's
// errors quote nothing of the file except the name of an alias.
func yamlError(file string, err error) Error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	f := Error{File: file, Line: 1, Col: 1, Hint: "fix the YAML syntax"}
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if n, what, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(n); err == nil {
				f.Line, text = line, what
			}
		}
	}
	if strings.Contains(text, "cannot start any token") {
		f.Hint = "indent with spaces, and put values with special characters in quotes"
	}
	if strings.Contains(text, "unknown anchor") {
		text, f.Hint = "an alias (*name) names no anchor (&name) above it", "put a value that begins with * in quotes"
	}
	f.Message = text
	return f
}

type parser struct {
	file   string
	errs   Errors
	values int // made so far: aliases are written out, and could multiply them
	full   bool
	open   []*yaml.Node // the anchors being written out
}

func (p *parser) node(y *yaml.Node, path string, depth int) *node {
	at := position{file: p.file, line: y.Line, col: y.Column}
	if len(p.errs) > maxErrors || p.full {
		return &node{kind: null, at: at}
	}
	if p.values++; p.values > maxValues {
		p.full = true
		p.errs = append(p.errs, Error{File: p.file, Message: fmt.Sprintf("holds more than %d values, with its aliases written out", maxValues), Hint: "is it the right file? put what repeats into a pool"})
		return &node{kind: null, at: at}
	}
	if depth > maxDepth {
		p.errs = append(p.errs, at.error(path, fmt.Sprintf("is nested deeper than %d levels", maxDepth), "flatten it"))
		return &node{kind: null, at: at}
	}
	switch y.Kind {
	case yaml.DocumentNode:
		return p.node(y.Content[0], path, depth)
	case yaml.AliasNode:
		return p.alias(y, at, path, depth)
	case yaml.SequenceNode:
		n := &node{kind: list, at: at}
		for i, c := range y.Content {
			n.items = append(n.items, p.node(c, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
		return n
	case yaml.MappingNode:
		return p.mapping(y, at, path, depth)
	}
	if y.ShortTag() == "!!null" {
		return &node{kind: null, at: at}
	}
	return &node{kind: scalar, at: at, tag: y.ShortTag(), text: y.Value}
}

// alias returns what an alias stands for.
func (p *parser) alias(y *yaml.Node, at position, path string, depth int) *node {
	if slices.Contains(p.open, y.Alias) {
		p.errs = append(p.errs, at.error(path, "an alias is inside its own anchor", "write the value out"))
		return &node{kind: null, at: at}
	}
	p.open = append(p.open, y.Alias)
	n := p.node(y.Alias, path, depth)
	p.open = p.open[:len(p.open)-1]
	return n
}

// merge adds the keys of a << that the mapping lacks. Of several mappings, the
// first with a key counts.
func (p *parser) merge(n *node, has map[string]int, from *yaml.Node, at position, path string, depth int) {
	before := len(p.errs)
	val := p.node(from, join(path, "<<"), depth)
	sources := []*node{val}
	if val.kind == list {
		sources = val.items
	}
	for _, m := range sources {
		if m.kind != mapping {
			if m.kind != null || len(p.errs) == before {
				p.errs = append(p.errs, at.error(join(path, "<<"), "merges no mapping, but "+m.what(), "name the anchor of a mapping, such as <<: *defaults"))
			}
			continue
		}
		for _, e := range m.keys {
			if _, ok := has[e.key]; !ok {
				has[e.key] = len(n.keys)
				n.keys = append(n.keys, e)
			}
		}
	}
}

func (p *parser) mapping(y *yaml.Node, at position, path string, depth int) *node {
	n := &node{kind: mapping, at: at, keys: make([]entry, 0, len(y.Content)/2)}
	first := make(map[string]int, len(y.Content)/2)
	var merged *yaml.Node
	var mergedAt position
	for i := 0; i+1 < len(y.Content); i += 2 {
		k := y.Content[i]
		keyAt := position{file: p.file, line: k.Line, col: k.Column}
		if k.Kind != yaml.ScalarNode || k.Value == "" || k.Value == "=" {
			p.errs = append(p.errs, keyAt.error(path, "a key must be a plain word", "fix the key"))
			continue
		}
		if k.ShortTag() == "!!merge" {
			if merged != nil {
				p.errs = append(p.errs, keyAt.error(path, "a second << is here", "merge several in one: <<: [*a, *b]"))
			}
			merged, mergedAt = y.Content[i+1], keyAt
			continue
		}
		key := strings.ToLower(k.Value)
		val := p.node(y.Content[i+1], join(path, key), depth+1)
		if j, twice := first[key]; twice {
			p.errs = append(p.errs, keyAt.error(join(path, key), fmt.Sprintf("is also set in line %d (keys ignore case)", n.keys[j].at.line), "keep one of the two"))
			n.keys[j].val = val
			continue
		}
		first[key] = len(n.keys)
		n.keys = append(n.keys, entry{key, keyAt, val})
	}
	if merged != nil {
		p.merge(n, first, merged, mergedAt, path, depth+1)
	}
	if len(n.keys) == 0 && len(y.Content) > 0 { // no key was valid, which is already reported
		n.kind = null
	}
	return n
}

// keyWord matches the keys that may be shown in a path, if they have at most
// longestKey characters. Another one may be a URL that a stray colon has turned into
// a key. The length is not in the expression, which would take 1.6 MiB with it.
var keyWord = regexp.MustCompile(`^([\pL0-9._=#-]+|<<)$`)

const longestKey = 60

func join(path, key string) string {
	if !keyWord.MatchString(key) || utf8.RuneCountInString(key) > longestKey {
		key = "***"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// pastedMethod are cryptofeed's health checks that have another name here.
var pastedMethod = map[string]string{"http": "connect", "ping": "tcp"}

// paste marks a node as cryptofeed's own, which is read as cryptofeed reads it.
func (n *node) paste() {
	n.at.pasted = true
	for i := range n.keys {
		e := &n.keys[i]
		e.at.pasted = true
		e.val.paste()
		switch ours := pastedMethod[e.val.text]; {
		case e.key == "retry_count" && n.child("fall") == nil:
			e.key = "fall"
		case e.key == "method" && e.val.kind == scalar && ours != "":
			e.val.text = ours
		}
	}
	for _, c := range n.items {
		c.paste()
	}
}

// unwrap replaces a pasted `proxy:` block by its keys. Keys of other programs
// beside it show that the file is another program's.
func unwrap(root *node) (inBlock bool, errs Errors) {
	block := root.child("proxy")
	if block == nil {
		return false, nil
	}
	if block.kind != mapping {
		at := block.at
		for _, e := range root.keys {
			if e.key == "proxy" {
				at = keyPlace(e.at, e.val)
			}
		}
		root.remove("proxy")
		return true, Errors{at.error("proxy", "must be a mapping, not "+block.what(), "paste cryptofeed's proxy block below it, or remove it")}
	}
	root.remove("proxy")
	block.paste()
	beside := root.keys
	for _, e := range block.keys {
		if i := slices.IndexFunc(beside, func(o entry) bool { return o.key == e.key }); i >= 0 {
			errs = append(errs, e.at.error("proxy."+e.key, fmt.Sprintf("is also set outside of proxy, in line %d", beside[i].at.line), "keep one of the two"))
			continue
		}
		root.set(e.key, e.at, e.val)
	}
	return true, errs
}
