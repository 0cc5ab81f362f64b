package config_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
	"proxyd/internal/config/internal/raw"
)

// marked is a password that no output may hold.
const marked = "hunter2"

// credentialShapes are how people write a proxy with a password,
// and the slips that make none of ours of them.
var credentialShapes = []string{
	"127.0.0.1:19001:user:" + marked, "127.0.0.1|19001|user|" + marked, "127.0.0.1:19001|user|" + marked,
	"http://127.0.0.1:19001@user:" + marked, "user:" + marked + "@127.0.0.1:19001", "user:" + marked + "@proxy.example",
	"user:" + marked, "http://user:" + marked + "@h.example", "http://user:" + marked + "@h.example:port", "http://user:" + marked + "@h example:1",
	"http://user:" + marked + "@:1", "http://user:" + marked + "@h.example:1/path", "http://h.example:1/" + marked, "http://h.example:1?p=" + marked,
	"http://h.example:1:user:" + marked, "http://h.example:user:" + marked, "http://user:" + marked + "%zz@h.example:1", "http://us er:" + marked,
	"http:/user:" + marked + "@h.example:1", "http//user:" + marked + "@h.example:1", "ftp://user:" + marked + "@h.example:1", marked + "://h.example:1",
	"user:" + marked + "://h.example:1", "direct://user:" + marked + "@h", "direct://?interface=" + marked + "&x=1", "http://[" + marked + ":1",
	"h.example:1," + "user," + marked, "h.example;1;user;" + marked, "h.example 1 user " + marked, "http://user:" + marked + "\n@h.example:1",
	"http://user:${" + marked, "$" + "{user:" + marked + "}", "http://user@h.example:1 # " + marked, "socks5://h.example:1 user " + marked, "@" + marked, marked + "@",
	"user/" + marked, "http://h.example:" + marked, "http://h.example:" + marked + ":1", "Basic " + marked + "=", "[" + marked + "]", "{" + marked + "}",
}

// urlShapes could be a password only where a URL may stand: elsewhere they are
// words.
var urlShapes = []string{marked, "http://" + marked, "direct://" + marked, "user-" + marked + ".x"}

// company is what a value needs beside it, so that it is looked at.
var company = map[reflect.Type]map[string]any{
	reflect.TypeFor[raw.Proxy]():     {"url": "https://h.example:1"},
	reflect.TypeFor[raw.Outbound]():  {"url": "https://h.example:1"},
	reflect.TypeFor[raw.Outbounds](): {"url": "https://h.example:1"},
	reflect.TypeFor[raw.Exchange]():  {"url": "https://h.example:1", "hosts": []any{"h.example"}},
	reflect.TypeFor[raw.Pool]():      {"proxies": []any{"https://h.example:1"}},
	reflect.TypeFor[raw.PoolRef]():   {"proxies": []any{"https://h.example:1"}},
	reflect.TypeFor[raw.Route]():     {"hosts": []any{"h.example"}, "use": "direct"},
	reflect.TypeFor[raw.Listener]():  {"address": "127.0.0.1:0"},
	reflect.TypeFor[raw.User]():      {"name": "n", "password": "p"},
	reflect.TypeFor[raw.Limits]():    {"connects": "1/s", "share": "1/1"},
}

// spot is a place in the file, as a function from a value to a document.
type spot struct {
	path string
	url  bool // a URL may stand there
	doc  func(any) any
}

// spots walks the types of the file: every value and every key of every
// mapping, so that a key of tomorrow is among them.
func spots(typ reflect.Type, path string, url bool, doc func(any) any, seen map[reflect.Type]int) (out []spot) {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	out = append(out, spot{path, url, doc})
	if seen[typ]++; typ.Kind() == reflect.Struct && seen[typ] > 2 {
		return out
	}
	key := func(name string) func(any) any {
		return func(v any) any {
			m := maps.Clone(company[typ])
			if m == nil {
				m = map[string]any{}
			}
			if m[name] = v; name == "pool" {
				delete(m, "url")
			}
			return doc(m)
		}
	}
	switch typ.Kind() {
	case reflect.Struct:
		out = append(out, asKeys(path, doc)...)
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, option, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
			switch {
			case option == "squash":
				out = append(out, spots(f.Type, path, url, doc, seen)[1:]...)
			case name == raw.Short:
			default:
				holds := name == "url" || name == "pool" || f.Type == reflect.TypeFor[*raw.Outbound]() || f.Type == reflect.TypeFor[*raw.Outbounds]()
				out = append(out, spots(f.Type, path+"."+name, holds, key(name), seen)...)
			}
		}
	case reflect.Map:
		out = append(out, asKeys(path, doc)...)
		out = append(out, spots(typ.Elem(), path+".okx", typ.Elem() == reflect.TypeFor[raw.Exchange](), key("okx"), seen)...)
	case reflect.Slice:
		item := func(v any) any { return doc([]any{v}) }
		out = append(out, spots(typ.Elem(), path+"[]", typ.Elem() == reflect.TypeFor[raw.Proxy](), item, seen)...)
		twice := func(v any) any { return doc([]any{v, v}) }
		out = append(out, spot{path + "[twice]", false, twice})
	}
	return out
}

// asKeys makes the text a key, as a colon too many does.
func asKeys(path string, doc func(any) any) []spot {
	return []spot{
		{path + "{as a key}", false, func(v any) any { return doc(map[string]any{fmt.Sprint(v): nil}) }},
		{path + "{as a key with a value}", false, func(v any) any { return doc(map[string]any{fmt.Sprint(v): "direct"}) }},
		{path + "{as a key of a mapping}", false, func(v any) any { return doc(map[string]any{fmt.Sprint(v): map[string]any{"url": v}}) }},
	}
}

// Promise (security): no error, warning or printed configuration repeats text
// that could hold a credential, wherever in the file it was written by mistake.
func TestNoOutputRepeatsCredential(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "proxyd.yaml")
	all := spots(reflect.TypeFor[raw.File](), "", false, func(v any) any { return v }, map[reflect.Type]int{})
	loads := 0
	for i, s := range all {
		for j, shape := range slices.Concat(credentialShapes, urlShapes) {
			if !s.url && (j >= len(credentialShapes) || (i+j)%5 != 0) { // elsewhere each shape at some of the places
				continue
			}
			text, err := yaml.Marshal(s.doc(shape))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			loads++
			got := outputs(path)
			if strings.Contains(s.path, ".probe.") && strings.HasPrefix(shape, "http://h.example:1") || strings.HasSuffix(s.path, "users[].name") || s.path == ".probe.user_agent" {
				continue // a public address, a client's name, and what exchanges are sent in clear: they are shown
			}
			if strings.Contains(strings.ToLower(got), marked) {
				t.Errorf("%s\nleads to\n%s", text, lines(got))
			}
		}
	}
	if loads < 2000 {
		t.Errorf("%d shapes were tried: the walk has lost its types", loads)
	}
}

// outputs is all that is said of a configuration.
func outputs(path string, environ ...string) string {
	c, err := config.Load(path, environ)
	if err != nil {
		return err.Error()
	}
	got := config.Print(c)
	for _, w := range c.Warnings {
		got += w.String() + "\n"
	}
	before, err := config.Load("", nil)
	if err != nil {
		return err.Error()
	}
	for _, d := range append(config.Diff(before, c), config.Diff(c, before)...) {
		got += fmt.Sprintln(d)
	}
	return got
}

// Unquoted YAML has shapes of its own, and so has the environment.
func TestNoOutputRepeatsCredentialInOddYAML(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"admin: {token: *" + marked + "}", "admin: {token: !" + marked + "}", "admin: {token: !!" + marked + " x}", "admin: {token: &" + marked + "}",
		"admin: {token: %" + marked + "}", "admin: {token: @" + marked + "}", "admin: {token: `" + marked + "}", "default: http://u:*" + marked + "@h", "default: *" + marked,
		"default: {url: http://u:" + marked + ": x}", "default: \"http://u:\\" + marked + "\"", "default: 'http://u:" + marked, "default: |" + marked, "default: [" + marked, "? " + marked + "|x\n: y",
		"%" + marked + "\n---\ndefault: direct\n", "default: <<: " + marked, "default:\n  <<: *" + marked, "default:\n  <<: http://u:" + marked + "@h", "pools:\n  a:\n    proxies:\n    - h.example:1:u:" + marked + ": x",
	} {
		if got := outputs(write(t, text+"\n")); strings.Contains(got, marked) {
			t.Errorf("%s\nleads to\n%s", text, lines(got))
		}
	}
	for _, name := range []string{"PROXYD_DEFAULT", "PROXYD_DEFAULT__HTTP__URL", "PROXYD_POOLS__ASIA__PROXIES__0", "PROXYD_ADMIN__TOKEN__X", "PROXYD_LISTEN", "CRYPTOFEED_PROXY_DEFAULT__HTTP__URL"} {
		for _, shape := range slices.Concat(credentialShapes, []string{`{"` + marked + `|x": 1}`, `{"url": "h:1:u:` + marked + `"}`, `{"url": ` + marked + `}`, `["h:1:u:` + marked + `"]`}) {
			if got := outputs("", name+"="+shape); strings.Contains(got, marked) {
				t.Errorf("%s=%s\nleads to\n%s", name, shape, got)
			}
		}
	}
}

// lines are those that repeat the password.
func lines(text string) (out string) {
	for line := range strings.Lines(text) {
		if strings.Contains(strings.ToLower(line), marked) {
			out += line
		}
	}
	return out
}
