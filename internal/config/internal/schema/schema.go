// Package schema makes the JSON schema of the configuration file from the raw
// types. Only the generator and its test use it; the daemon embeds the result.
package schema

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"proxyd/internal/config/internal/raw"
)

// ID is the schema's $id. It names the schema and is no address.
const ID = "urn:proxyd:configuration"

const rawPackage = "proxyd/internal/config/internal/raw"

// descriptions returns the comments of the raw types by type and field, such as
// File.Listen. dir holds their source.
func descriptions(dir string) (map[string]string, error) {
	r := &jsonschema.Reflector{}
	if err := r.AddGoComments(rawPackage, dir); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for k, v := range r.CommentMap {
		if _, name, ok := strings.Cut(k, "/raw."); ok {
			out[name] = v
		}
	}
	return out, nil
}

// Generate returns the schema of raw.File. dir holds its source, for the
// descriptions.
func Generate(dir string) ([]byte, error) {
	comments, err := descriptions(dir)
	if err != nil {
		return nil, err
	}
	r := &jsonschema.Reflector{FieldNameTag: "mapstructure", RequiredFromJSONSchemaTags: true, DoNotReference: false, CommentMap: map[string]string{}}
	for name, text := range comments {
		r.CommentMap[rawPackage+"."+name] = text
	}
	s := r.Reflect(&raw.File{})
	s.ID = ID
	s.Title = "proxyd configuration"
	for name, def := range s.Definitions {
		s.Definitions[name] = adapt(types[name], def)
	}
	// cryptofeed's block may stand below the key it has there.
	if err := addPasted(s.Definitions); err != nil {
		return nil, err
	}
	s.Definitions["File"].Properties.Set("proxy", &jsonschema.Schema{Ref: "#/$defs/PastedFile", Description: "The same keys, pasted in with cryptofeed's proxy block."})
	return json.Marshal(s)
}

// addPasted adds a second copy of each definition for what is below proxy,
// where numbers and booleans may also be text, as in cryptofeed.
func addPasted(defs jsonschema.Definitions) error {
	text, err := json.Marshal(defs)
	if err != nil {
		return err
	}
	plain := strings.NewReplacer(
		`,"minProperties":1`, ``, // cryptofeed's may be empty
		`"minProperties":1,`, ``,
		`"#/$defs/`, `"#/$defs/Pasted`,
		`"type":"boolean"`, `"anyOf":[{"type":"boolean"},{"type":"string"},{"type":"integer"}]`,
		`"type":"number"`, `"anyOf":[{"type":"number"},{"type":"string"}]`,
		`"type":"integer"`, `"anyOf":[{"type":"number"},{"type":"string"}]`)
	var pasted jsonschema.Definitions
	if err := json.Unmarshal([]byte(plain.Replace(string(text))), &pasted); err != nil {
		return err
	}
	checks := pasted["Health"].Properties
	if method, ok := checks.Get("method"); ok {
		method.Enum = append(method.Enum, "http", "ping")
	}
	if fall, ok := checks.Get("fall"); ok {
		checks.Set("retry_count", fall)
	}
	for name, def := range pasted {
		for _, one := range append(def.AnyOf, def) {
			one.AllOf = nil // cryptofeed takes http and rest beside each other
		}
		defs["Pasted"+name] = def
	}
	return nil
}

// types are the raw types by name.
var types = collect(reflect.TypeFor[raw.File](), map[string]reflect.Type{})

func collect(t reflect.Type, seen map[string]reflect.Type) map[string]reflect.Type {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return collect(t.Elem(), seen)
	case reflect.Struct:
		if _, ok := seen[t.Name()]; ok {
			return seen
		}
		seen[t.Name()] = t
		for i := range t.NumField() {
			collect(t.Field(i).Type, seen)
		}
	}
	return seen
}

// adapt adds what the tags hold: the short spelling, a key's alias, the values
// of an enum, the range of a number.
func adapt(t reflect.Type, def *jsonschema.Schema) *jsonschema.Schema {
	if t == nil || def.Properties == nil {
		return def
	}
	for _, f := range reflect.VisibleFields(t) {
		key, _, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		p, ok := def.Properties.Get(key)
		if !ok {
			continue
		}
		if low, high, ok := strings.Cut(f.Tag.Get("range"), ","); ok {
			p.Minimum, p.Maximum = json.Number(low), json.Number(high)
		}
		if words := f.Tag.Get("enum"); words != "" {
			p.Enum = nil
			for w := range strings.SplitSeq(words, ",") {
				p.Enum = append(p.Enum, w)
			}
		}
		if f.Tag.Get("shape") == "one" {
			one, atLeast := *p.Items, uint64(1)
			def.Properties.Set(key, &jsonschema.Schema{Description: p.Description, AnyOf: []*jsonschema.Schema{&one, {Type: "array", Items: p.Items, MinItems: &atLeast}}})
		}
		if other := f.Tag.Get("alias"); other != "" {
			def.Properties.Set(other, p)
			exclude(def, key, other)
		}
		if other := f.Tag.Get("excludes"); other != "" {
			exclude(def, key, other)
		}
		if other := f.Tag.Get("with"); other != "" {
			if def.DependentRequired == nil {
				def.DependentRequired = map[string][]string{}
			}
			def.DependentRequired[key] = []string{other}
		}
	}
	if t != reflect.TypeFor[raw.File]() {
		one := uint64(1)
		def.MinProperties = &one // an empty mapping sets nothing
	}
	short, ok := def.Properties.Get(raw.Short)
	if !ok {
		return def
	}
	def.Properties.Delete(raw.Short)
	spellings := []*jsonschema.Schema{{Type: short.Type, Items: short.Items, Enum: short.Enum}, def, {Type: "null"}}
	_, outbound := def.Properties.Get("pool")
	_, pool := def.Properties.Get("proxies")
	if outbound || pool { // a list is an inline pool
		spellings = append(spellings, &jsonschema.Schema{Type: "array", Items: &jsonschema.Schema{Ref: "#/$defs/Proxy"}})
	}
	return &jsonschema.Schema{Description: def.Description, AnyOf: spellings}
}

// exclude adds that a mapping has at most one of two keys.
func exclude(def *jsonschema.Schema, a, b string) {
	def.AllOf = append(def.AllOf, &jsonschema.Schema{Not: &jsonschema.Schema{Required: []string{a, b}}})
}
