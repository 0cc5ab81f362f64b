package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
	"proxyd/internal/config/internal/schema"
)

func TestSchemaMatchesTypes(t *testing.T) {
	fresh, err := schema.Generate("internal/raw")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := json.Compact(&got, config.Schema()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(got.Bytes()), fresh) {
		t.Error("schema.json is not what the types give; run: make schema")
	}
	for _, key := range []string{`"listen"`, `"exchanges"`, `"timeout_seconds"`, `"round_robin"`} {
		if !bytes.Contains(fresh, []byte(key)) {
			t.Errorf("the schema lacks %s", key)
		}
	}
}

// An editor that holds a file against the schema sees nothing wrong in one
// that loads, and the unknown key in one that does not.
func TestSchemaAcceptsValidFiles(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"../../configs/*.yaml", "testdata/valid/*.yaml"} {
		each(t, pattern, 3, func(t *testing.T, path string) {
			if filepath.Base(path) == "names-without-case.yaml" {
				return // a schema knows one spelling of a key
			}
			if what := violation(schema, schema, parse(t, path), ""); what != "" {
				t.Error(what)
			}
		})
	}
	for _, name := range []string{"key-unknown", "key-unknown-below", "key-too-far-in", "key-too-far-out", "type-text-for-number", "type-list-for-pools", "word-unknown", "word-unknown-kind", "yaml-too-deep"} {
		if violation(schema, schema, parse(t, "testdata/invalid/"+name+".yaml"), "") == "" {
			t.Errorf("%s: the schema sees nothing wrong", name)
		}
	}
}

func parse(t *testing.T, path string) (value any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, &value)
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// violation is the first place where a value is not what a schema says, in the
// few words of JSON schema that ours uses; "" if there is none.
func violation(root, schema map[string]any, v any, path string) string {
	for word, arg := range schema {
		switch word {
		case "$schema", "$defs", "title", "description", "additionalProperties":
		case "$ref":
			name := strings.TrimPrefix(arg.(string), "#/$defs/")
			if what := violation(root, root["$defs"].(map[string]any)[name].(map[string]any), v, path); what != "" {
				return what
			}
		case "anyOf":
			var all []string
			for _, one := range arg.([]any) {
				all = append(all, violation(root, one.(map[string]any), v, path))
			}
			if !slices.Contains(all, "") {
				return strings.Join(all, ", or ")
			}
		case "enum":
			if !slices.Contains(arg.([]any), v) {
				return fmt.Sprintf("%s: %v is none of %v", path, v, arg)
			}
		case "type":
			f, number := v.(float64)
			whole := number && f == math.Trunc(f) // 1.0 is an integer in a JSON schema
			if got := typeOf(v); got != arg && (arg != "number" || got != "integer") && (arg != "integer" || !whole) {
				return fmt.Sprintf("%s: a %s, not a %s", path, got, arg)
			}
		case "items":
			list, _ := v.([]any)
			for i, item := range list {
				if what := violation(root, arg.(map[string]any), item, fmt.Sprintf("%s[%d]", path, i)); what != "" {
					return what
				}
			}
		case "properties":
			if what := properties(root, schema, v, path); what != "" {
				return what
			}
		default:
			return "the schema says " + word + ", which this test does not know"
		}
	}
	if others, ok := schema["additionalProperties"].(map[string]any); ok {
		named, _ := v.(map[string]any)
		for key, below := range named {
			if below != nil { // not set
				if what := violation(root, others, below, path+"."+key); what != "" {
					return what
				}
			}
		}
	}
	return ""
}

func properties(root, schema map[string]any, v any, path string) string {
	known := schema["properties"].(map[string]any)
	named, _ := v.(map[string]any)
	for key, below := range named {
		p, ok := known[key].(map[string]any)
		if !ok && schema["additionalProperties"] == false {
			return path + ": no key " + key
		}
		if ok && below != nil {
			if what := violation(root, p, below, path+"."+key); what != "" {
				return what
			}
		}
	}
	return ""
}

func typeOf(v any) string {
	switch v.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case bool:
		return "boolean"
	case int:
		return "integer"
	case float64:
		return "number"
	case nil:
		return "null"
	}
	return fmt.Sprintf("%T", v)
}
