package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"proxyd/internal/config"
	"proxyd/internal/config/internal/schema"
)

// What the schema takes and refuses, a real validator shows: tools/schema.
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
	published, err := os.ReadFile("../../configs/proxyd.schema.json")
	if err != nil || !bytes.Equal(published, config.Schema()) {
		t.Errorf("configs/proxyd.schema.json is not the schema: %v; run: make schema", err)
	}
	for _, key := range []string{`"$id": "urn:proxyd:configuration"`, `"listen"`, `"exchanges"`, `"timeout_seconds"`, `"round_robin"`} {
		if !bytes.Contains(published, []byte(key)) {
			t.Errorf("the schema lacks %s", key)
		}
	}
}

// The key reference in docs/configuration.md is what the types give.
func TestKeyReferenceMatchesTypes(t *testing.T) {
	reference, err := schema.Reference("internal/raw")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := schema.PutReference(string(doc), reference)
	if err != nil || fresh != string(doc) {
		t.Errorf("docs/configuration.md is not what the types give: %v; run: make schema", err)
	}
	empty := regexp.MustCompile(`(?m)^\|.*\| *\|$`) // a key without a description
	if row := empty.FindString(reference); row != "" {
		t.Errorf("no description: %s", row)
	}
	if n := strings.Count(reference, "\n| `"); n < 100 {
		t.Errorf("only %d keys", n)
	}
}

// The bounds of a number are the same in the schema and in what check says.
func TestSchemaRangesAreThoseOfErrors(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`(?m)^# \S+?: ([a-z_.0-9\[\]]+): \S+ is out of range: must be from (\S+) to (\S+)`)
	held := 0
	each(t, "testdata/invalid/*.yaml", 100, func(t *testing.T, path string) {
		_, environ, want := golden(t, path)
		for _, m := range said.FindAllStringSubmatch(want, -1) {
			if len(environ) > 0 {
				continue
			}
			held++
			low, high := bounds(schema, schema, strings.FieldsFunc(m[1], func(r rune) bool { return r == '.' || r == '[' }))
			if fmt.Sprintf("%.10g to %.10g", low, high) != m[2]+" to "+m[3] {
				t.Errorf("%s: the schema has %v to %v, check says %s to %s", m[1], low, high, m[2], m[3])
			}
		}
	})
	if held < 25 {
		t.Errorf("only %d ranges were found", held)
	}
}

// bounds returns the minimum and maximum of the number at a path of keys; an index
// ends with "]".
func bounds(root, at map[string]any, path []string) (low, high any) {
	if ref, ok := at["$ref"].(string); ok {
		return bounds(root, root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), path)
	}
	if one, ok := at["anyOf"].([]any); ok {
		for _, x := range one {
			if low, high = bounds(root, x.(map[string]any), path); low != nil {
				return low, high
			}
		}
		return nil, nil
	}
	if len(path) == 0 {
		return at["minimum"], at["maximum"]
	}
	known, _ := at["properties"].(map[string]any)
	below, ok := known[path[0]].(map[string]any)
	if strings.HasSuffix(path[0], "]") {
		below, ok = at["items"].(map[string]any)
	} else if !ok {
		below, ok = at["additionalProperties"].(map[string]any)
	}
	if !ok {
		return nil, nil
	}
	return bounds(root, below, path[1:])
}
