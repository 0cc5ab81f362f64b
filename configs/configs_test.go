// Package configs_test holds the examples and the documents to the program:
// every configuration that is shown to a user loads.
package configs_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"proxyd/internal/config"
)

// secrets are the variables that the examples name.
var secrets = []string{"ASIA_PASSWORD=a", "BOT_PASSWORD=b", "TOKYO_PW=c"}

func TestEveryExampleLoads(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			c, err := config.Load(file, secrets)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range c.Warnings {
				t.Log(w)
			}
		})
	}
}

// TestEveryDocumentedConfigLoads takes the blocks that start with "```yaml config".
func TestEveryDocumentedConfigLoads(t *testing.T) {
	block := regexp.MustCompile("(?ms)^```yaml config\n(.*?)^```$")
	for _, doc := range []string{"../README.md", "../docs/configuration.md", "../docs/operations.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		blocks := block.FindAllSubmatch(text, -1)
		if len(blocks) == 0 {
			t.Errorf("%s: no block is marked as a config", doc)
		}
		for _, b := range blocks {
			file := filepath.Join(t.TempDir(), "proxyd.yaml")
			if err := os.WriteFile(file, b[1], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(file, secrets); err != nil {
				t.Errorf("%s:\n%s\n%v", doc, b[1], err)
			}
		}
	}
}

// TestEveryKeyIsDocumented walks the schema, which is generated from the types
// that the configuration is read into.
func TestEveryKeyIsDocumented(t *testing.T) {
	raw, err := os.ReadFile("../internal/config/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema any
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	properties(schema, keys)
	if !keys["attempt_seconds"] || !keys["interval_seconds"] {
		t.Fatalf("the schema's keys were not found: %v", keys)
	}
	for _, doc := range []string{"../docs/configuration.md", "proxyd.full.yaml"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for key := range keys {
			if !regexp.MustCompile(`\b`+regexp.QuoteMeta(key)+`\b`).Match(text) && !elsewhere[key] {
				t.Errorf("%s does not mention %s", doc, key)
			}
		}
	}
}

// elsewhere are keys that the full example leaves out on purpose: other
// spellings and another shape of the whole.
var elsewhere = map[string]bool{"rest": true, "ws": true, "proxy": true}

// properties collects the names of all properties below a node of the schema.
func properties(node any, keys map[string]bool) {
	switch node := node.(type) {
	case map[string]any:
		for name, below := range node {
			if strings.HasPrefix(name, "Pasted") { // the same once more, as cryptofeed spells it
				continue
			}
			if named, ok := below.(map[string]any); ok && name == "properties" {
				for key := range named {
					keys[key] = true
				}
			}
			properties(below, keys)
		}
	case []any:
		for _, below := range node {
			properties(below, keys)
		}
	}
}

func TestLinksBetweenDocumentsLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".md") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, l := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), l[1])); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s leads nowhere", path, l[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
