// Package configs_test holds the examples and the documents to the program:
// every configuration that is shown to a user loads.
package configs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"proxyd/internal/config"
)

// secrets are the variables that the examples name.
var secrets = []string{
	"ASIA_PASSWORD=a", "BOT_PASSWORD=b", "TOKYO_PW=c", "PROXY_PASSWORD=d", "TOKYO_PASSWORD=e", "CORPORATE_PASSWORD=f",
	"BOT_1_PASSWORD=g", "BOT_2_PASSWORD=h", "BOT_3_PASSWORD=i", "LIST_KEY=j",
}

// schemaLine makes an editor check the file.
const schemaLine = "# yaml-language-server: $schema=proxyd.schema.json\n"

// There is one example a use. Each loads without a warning, begins with the line for
// editors, and says in its first lines what it is for. (cmd/proxyd holds them to
// check --strict, tools/schema to a validator.)
func TestExamplesAreOneAUseWithoutWarnings(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	listed := read(t, "../docs/configuration.md")
	for _, use := range []string{
		"proxyd.minimal", "proxyd.full", "many-exits", "exit-per-bot", "source-addresses", "corporate-chain", "kill-switch", "shared-exits", "many-hosts", "cryptofeed", "ccxt",
	} {
		file := use + ".yaml"
		if !slices.Contains(files, file) {
			t.Errorf("there is no %s", file)
		}
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			c, err := config.Load(file, secrets)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range c.Warnings {
				t.Error(w)
			}
			text := read(t, file)
			about, ok := strings.CutPrefix(text, schemaLine+"# ")
			if !ok {
				t.Errorf("it does not begin with %s and a comment", schemaLine)
			}
			if first, _, _ := strings.Cut(about, "\n"); len(first) < 30 {
				t.Errorf("its comment does not say what it is for: %s", first)
			}
			if lines := strings.Count(text, "\n"); lines > 40 && file != "proxyd.full.yaml" {
				t.Errorf("an example is short; it has %d lines", lines)
			}
			if !strings.Contains(listed, "(../configs/"+file+")") {
				t.Errorf("docs/configuration.md does not list it")
			}
		})
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
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
