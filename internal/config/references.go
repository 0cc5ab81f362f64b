package config

import (
	"bytes"
	"cmp"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
)

// references replaces ${NAME} and ${file:/path} with what they stand for, and
// notes the passwords that are written out.
type references struct {
	*report
	env       map[string]string
	missingOK bool              // a reference need not resolve, and no other file is read
	files     map[string]bool   // that ${file:...} named
	folder    string            // at which relative paths begin, "" for the working directory
	relative  map[string]string // by the path that they lead to: relative paths as they are written
	inputs    *inputs
	literal   []string // keys of passwords that are written out in the file
}

func newReferences(r *report, environ []string, missingOK bool) *references {
	refs := &references{report: r, env: map[string]string{}, missingOK: missingOK, files: map[string]bool{}, inputs: &inputs{}, relative: map[string]string{}}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			refs.env[name] = value
		}
	}
	return refs
}

// noteLiteral records a password that is written out in the file.
func (r *references) noteLiteral(key string) {
	if r.position(key).env == "" {
		r.literal = append(r.literal, key)
	}
}

// piece is literal text, or what a reference stands for.
type piece struct {
	text   string
	secret bool
}

// pieces splits text at its references. $${ is a literal ${.
func (r *references) pieces(key, text string) []piece {
	var out []piece
	for text != "" {
		i := strings.Index(text, "${")
		if i < 0 {
			return append(out, piece{text: text})
		}
		if i > 0 && text[i-1] == '$' {
			out = append(out, piece{text: text[:i-1] + "${"})
			text = text[i+2:]
			continue
		}
		out = append(out, piece{text: text[:i]})
		name, rest, ok := strings.Cut(text[i+2:], "}")
		if !ok {
			r.errorf(key, "close it with }, or write $${ for a literal ${", "has a ${ without }")
			return out
		}
		out = append(out, piece{r.secret(key, name), true})
		text = rest
	}
	return out
}

func (r *references) secret(key, name string) string {
	if path, ok := strings.CutPrefix(name, "file:"); ok {
		path = r.resolve(path)
		r.files[path] = true
		raw, err := r.inputs.read(path, maxSecretSize)
		if err != nil && !r.missingOK {
			r.unreadable(key, path, err)
		}
		text := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
		if text == "" && err == nil { // perhaps about to be written; no password is never meant by naming a file
			r.errorf(key, "write the secret into it", "%s is empty", r.shown(path))
		}
		r.warnQuotes(key, r.shown(path), text)
		return text
	}
	value, ok := r.env[name]
	if !ok {
		if r.missingOK {
			return "x"
		}
		r.errorf(key, "export it, or put the value in a file and write ${file:/path}; proxyd check --no-secrets takes it as given", "the environment variable %s is not set", quoted(name))
	}
	r.warnQuotes(key, "${"+name+"}", value)
	return value
}

// warnQuotes warns of a value that includes its quotes, as in a container's
// environment file.
func (r *references) warnQuotes(key, name, value string) {
	if n := len(value); n >= 2 && value[0] == value[n-1] && (value[0] == '"' || value[0] == '\'') {
		r.warnf(key, "remove them, or ignore this if they are part of it", "the value of %s is in quotes, which count as part of it (env files of containers keep them)", name)
	}
}

// expand returns text with its references replaced.
func (r *references) expand(key, text string) string {
	var out strings.Builder
	for _, p := range r.pieces(key, text) {
		out.WriteString(p.text)
	}
	return out.String()
}

// password is expand for a value that must not be shown.
func (r *references) password(key, text string) string {
	if text != "" && !strings.Contains(text, "${") {
		r.noteLiteral(key)
	}
	return r.expand(key, text)
}

// marked is text in which each reference is one character, so that it can be
// split before the references are put in: what they stand for is literal.
type marked struct {
	values []string
	whole  bool // the whole text came from one reference
}

const firstMark = '\U000F0000' // private use: not in any URL

func (r *references) mark(key, text string) (string, *marked) {
	m := &marked{}
	var out strings.Builder
	for _, p := range r.pieces(key, text) {
		if p.secret {
			out.WriteRune(firstMark + rune(len(m.values)))
			m.values = append(m.values, p.text)
			continue
		}
		out.WriteString(p.text)
	}
	return out.String(), m
}

// put replaces the marks. If decode is set, literal text is percent-decoded.
func (m *marked) put(s string, decode bool) (string, bool) {
	var out strings.Builder
	for s != "" {
		i := strings.IndexFunc(s, m.is)
		lit := s
		if i >= 0 {
			lit = s[:i]
		}
		if decode {
			d, err := url.PathUnescape(lit)
			if err != nil {
				return "", false
			}
			lit = d
		}
		out.WriteString(lit)
		if i < 0 {
			break
		}
		r := []rune(s[i:])[0]
		out.WriteString(m.values[r-firstMark])
		s = s[i+len(string(r)):]
	}
	return out.String(), true
}

// in reports whether s has a mark.
func (m *marked) in(s string) bool {
	return strings.IndexFunc(s, m.is) >= 0
}

func (m *marked) is(r rune) bool { return r >= firstMark && int(r-firstMark) < len(m.values) }

// NamedFiles returns the files that ${file:...}, list and catalog name in a file,
// valid or not, so that a watcher notices a missing one when it appears. It
// reads no more than Load would.
func NamedFiles(path string) (names []string) {
	dir := folderOf(path)
	text, _ := readAtMost(path, maxFileSize) // what could be read counts
	for rest := text; ; {
		_, after, found := bytes.Cut(rest, []byte("${file:"))
		if !found {
			break
		}
		end := bytes.IndexAny(after, "}\n")
		if end > 0 && after[end] == '}' {
			names = append(names, inFolder(dir, string(after[:end])))
		}
		rest = after
	}
	for line := range bytes.Lines(text) {
		if len(line) < maxPath {
			for _, m := range listName.FindAllSubmatch(line, -1) {
				names = append(names, inFolder(dir, string(m[1])))
			}
		}
		if !bytes.HasPrefix(line, []byte("catalog:")) {
			continue
		}
		if m := catalogName.FindSubmatch(line[:min(len(line), maxPath)]); m != nil {
			names = append(names, inFolder(dir, string(m[1])))
		}
	}
	return names
}

// maxPath is more than a path has.
const maxPath = 8 << 10

// catalogName matches the line of a configuration, valid or not, that names the
// catalogue's file.
var catalogName = regexp.MustCompile(`^catalog:[ \t]+["']?([^"'\s#]+)`)

// listName matches the list of a pool, valid or not.
var listName = regexp.MustCompile(`\blist"?:[ \t]+["']?([^"'\s,{}#]+)`)

// Secret is text that must not be shown. It masks itself wherever it is
// printed, marshalled or logged; only Reveal returns it.
type Secret struct{ text string }

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.text == "" }

// String returns "***", or "" when there is no text.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return "***"
}

// GoString masks like String.
func (s Secret) GoString() string { return s.String() }

// MarshalText masks like String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// resolve is inFolder for the configuration, and remembers what was written.
func (r *references) resolve(path string) string {
	full := inFolder(r.folder, path)
	if full != path {
		r.relative[full] = path
	}
	return full
}

// resolveKeys resolves the paths of a raw value's keys that have the tag names:"file".
func (r *references) resolveKeys(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			r.resolveKeys(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			r.resolveKeys(v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			r.resolveKeys(v.MapIndex(k))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if v.Type().Field(i).Tag.Get("names") != "file" {
				r.resolveKeys(f)
			} else if !f.IsNil() {
				f.Elem().SetString(r.resolve(f.Elem().String()))
			}
		}
	default:
	}
}

// shown returns the path of a file for a message, as it is written, unless it could
// be a credential in the wrong place.
func (r *references) shown(path string) string {
	return filePath(cmp.Or(r.relative[path], path))
}

// unreadable reports a file that cannot be read.
func (r *references) unreadable(key, path string, err error) {
	hint := "create the file, or correct the path"
	switch {
	case r.relative[path] != "":
		hint += ", which begins at the folder of the configuration"
	case r.folder == "" && !filepath.IsAbs(path):
		hint += ", which begins at the working directory"
	}
	r.errorf(key, hint, "%s cannot be read: %s", r.shown(path), rootCause(err))
}
