package schema

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
)

const published = "../../configs/proxyd.schema.json"

// validator returns the published schema, compiled.
func validator(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, config.Schema()) {
		t.Fatal("configs/proxyd.schema.json is not what proxyd schema prints; run: make schema")
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("proxyd.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("proxyd.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// verdict returns why the validator, or already a YAML parser, does not take a
// file; nil if both do.
func verdict(t *testing.T, s *jsonschema.Schema, file string) error {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		return err
	}
	return s.Validate(value)
}

func files(t *testing.T, patterns ...string) (list []string) {
	t.Helper()
	for _, p := range patterns {
		some, err := filepath.Glob(p)
		if err != nil || len(some) < 5 {
			t.Fatalf("%s: %v, %v", p, some, err)
		}
		list = append(list, some...)
	}
	return list
}

func TestValidatorTakesWhatCheckTakes(t *testing.T) {
	s := validator(t)
	for _, file := range files(t, "../../configs/*.yaml", "../../internal/config/testdata/valid/*.yaml") {
		err := verdict(t, s, file)
		if filepath.Base(file) == "names-without-case.yaml" { // a schema knows one spelling of a key
			if err == nil {
				t.Errorf("%s: take it off this list", file)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Every file that check refuses is refused by the validator too, or is on the list
// of what a schema cannot see.
func TestValidatorRefusesWhatASchemaCanSee(t *testing.T) {
	s := validator(t)
	cannot := slices.Concat(slices.Collect(maps.Values(beyond))...)
	var unseen []string
	for _, file := range files(t, "../../internal/config/testdata/invalid/*.yaml") {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		seen := verdict(t, s, file) != nil
		listed := slices.Contains(cannot, name) || strings.HasPrefix(name, "env-") // of those the variables are wrong
		switch {
		case !seen && !listed:
			unseen = append(unseen, name)
		case seen && slices.Contains(cannot, name):
			t.Errorf("%s: the validator sees it; take it off the list", name)
		}
	}
	if len(unseen) > 0 {
		t.Errorf("the validator takes what check refuses; teach the schema, or add to the list:\n%q", unseen)
	}
}
