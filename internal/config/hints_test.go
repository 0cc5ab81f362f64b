package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
	"proxyd/internal/config/internal/raw"
)

// openValues are what the keys are given that say where connections go, or who may
// open them, at their most open; other keys are tried with each.
var openValues = []any{false, true, "direct", "reject", 1, []any{"0.0.0.0/0"}, []any{map[string]any{"hosts": []any{"*"}, "use": "direct"}},
	map[string]any{"okx": "direct"}, map[string]any{"http": "direct"}, map[string]any{"address": "127.0.0.1:0"}, map[string]any{"insecure": true}}

var moveHint = regexp.MustCompile(`move it (out to the first column|one level in)`)
var innerHint = regexp.MustCompile(`did you mean (\S+)\? move it one level in`)

// guarded is a file that lets out nothing that is not written.
func guarded() map[string]any {
	return map[string]any{
		"default":   map[string]any{"url": "reject"},
		"pools":     map[string]any{"asia": map[string]any{"proxies": []any{map[string]any{"url": "https://a.example:1"}}}},
		"exchanges": map[string]any{"okx": map[string]any{"http": map[string]any{"pool": "asia"}, "websocket": map[string]any{"url": "http://b.example:1"}}},
		"listen":    []any{map[string]any{"address": "127.0.0.1:1"}},
		"routes":    []any{map[string]any{"hosts": []any{"a.example"}, "use": map[string]any{"pool": "asia"}}},
		"log":       map[string]any{"level": "info"}, "tunnel": map[string]any{"idle_seconds": 1}, "stop": map[string]any{"grace_seconds": 1},
		"upgrade": map[string]any{"tunnels": "drain"}, "admin": map[string]any{"address": "127.0.0.1:2"},
	}
}

// mappingsOf finds every mapping of a document, by its key path.
func mappingsOf(v any, path string, found map[string]map[string]any) {
	switch v := v.(type) {
	case map[string]any:
		found[path] = v
		for k, below := range v {
			mappingsOf(below, strings.TrimPrefix(path+"."+k, "."), found)
		}
	case []any:
		for _, item := range v {
			mappingsOf(item, path+"[0]", found)
		}
	}
}

// keysOfAll lists every key that the file can have, at whatever depth.
func keysOfAll(typ reflect.Type, seen map[reflect.Type]bool, keys map[string]bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || seen[typ] {
		return
	}
	seen[typ] = true
	for i := range typ.NumField() {
		f := typ.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("mapstructure"), ","); name != "" && name != raw.Short {
			keys[name] = true
		}
		keysOfAll(f.Type, seen, keys)
	}
}

// decided is what a configuration lets out, and who may ask.
func decided(c *config.Config) string {
	masked := *c
	masked.Warnings, masked.File = nil, ""
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(config.Print(&masked)), &doc); err != nil {
		panic(err)
	}
	found := map[string]map[string]any{}
	mappingsOf(doc, "", found)
	for _, m := range found { // how much and how long are no doors
		delete(m, "limits")
		delete(m, "timeout_seconds")
	}
	out := map[string]any{}
	for _, key := range []string{"enabled", "default", "exchanges", "routes", "allow_private", "listen", "admin"} {
		out[key] = doc[key]
	}
	text, err := yaml.Marshal(out)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// follow does what a hint proposes.
func follow(doc map[string]any, path, key string, value any, hint string) {
	m := innerHint.FindStringSubmatch(hint)
	if m == nil {
		doc[key] = value
		return
	}
	found := map[string]map[string]any{}
	mappingsOf(doc, "", found)
	inner := strings.Split(m[1], ".")
	name := inner[len(inner)-2]
	below, ok := found[path][name].(map[string]any)
	if !ok {
		below = map[string]any{}
	}
	below[key] = value
	found[path][name] = below
}

// Promise (security): following the hint of an error about a misplaced key never
// lets more out, or in, than the file without that key.
func TestMoveHintNeverLoosens(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	keysOfAll(reflect.TypeFor[raw.File](), map[reflect.Type]bool{}, keys)
	file := filepath.Join(t.TempDir(), "proxyd.yaml")
	loadDoc := func(doc any) (*config.Config, error) {
		text, err := yaml.Marshal(doc)
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return config.Load(file, nil)
	}
	c, err := loadDoc(guarded())
	if err != nil {
		t.Fatal(err)
	}
	before := decided(c)
	all := map[string]map[string]any{}
	mappingsOf(guarded(), "", all)
	moves, followed := 0, map[string]bool{}
	for path := range all {
		doc, found := guarded(), map[string]map[string]any{}
		mappingsOf(doc, "", found)
		for key := range keys { // all together: each unknown one is an error of its own
			if _, has := found[path][key]; !has {
				found[path][key] = false
			}
		}
		_, err := loadDoc(doc)
		var errs config.Errors
		if !errors.As(err, &errs) {
			t.Fatalf("%s: %v", path, err)
		}
		for _, f := range errs {
			if !moveHint.MatchString(f.Hint) || followed[f.Hint] {
				continue
			}
			followed[f.Hint] = true
			key := f.Key[strings.LastIndexByte(f.Key, '.')+1:]
			for _, value := range openValues {
				moves++
				doc := guarded()
				follow(doc, path, key, value, f.Hint)
				if moved, err := loadDoc(doc); err == nil && decided(moved) != before {
					t.Errorf("%s.%s: %v, moved as proposed, decides otherwise:\n%s", path, key, value, decided(moved))
				}
			}
		}
	}
	if moves < 100 {
		t.Errorf("%d hints were followed: the test has lost its keys", moves)
	}
}
