package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/catalog"
)

// documents are the texts that are held to the program.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	texts := map[string]string{}
	for _, f := range append(files, "../../README.md", "../../CONTRIBUTING.md", "../../CHANGELOG.md") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(f)] = string(text)
	}
	return texts
}

// Every configuration that a document or configs/ shows is ok for check.
func TestDocumentedConfigurationsCheck(t *testing.T) {
	shown := map[string]string{}
	for name, text := range documents(t) {
		for i, b := range regexp.MustCompile("(?ms)^```yaml config\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
			shown[fmt.Sprintf("%s, block %d", name, i+1)] = file(t, b[1])
		}
	}
	examples, err := filepath.Glob("../../configs/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range examples {
		shown[path] = path
	}
	if len(shown) < 8 {
		t.Fatalf("only %d: %v", len(shown), shown)
	}
	for name, path := range shown {
		args := []string{"check", "-c", path, "--no-secrets"}
		if strings.HasPrefix(name, "README") || strings.HasPrefix(name, "configuration.md") || path == name { // what a user tries first, and the examples
			args = append(args, "--strict")
		}
		if out, errOut, code := call(args...); code != 0 {
			t.Errorf("%s: exit code %d\n%s%s", name, code, out, errOut)
		}
	}
}

// Every command and flag in the code of a document exists.
func TestDocumentedCommandsExist(t *testing.T) {
	code := regexp.MustCompile("(?ms)^```sh\n.*?^```$|`[^`\n]+`")
	command := regexp.MustCompile(`(?:^|[\s(/"` + "`" + `])proxyd ([^` + "`" + `)#|\n]+)`)
	seen := map[string]bool{}
	for name, text := range documents(t) {
		for _, span := range code.FindAllString(text, -1) {
			for _, m := range command.FindAllStringSubmatch(span, -1) {
				words := strings.Fields(m[1])
				if words[0] == "." { // docker build -t proxyd .
					continue
				}
				root := rootCommand()
				cmd, rest, err := root.Find(words)
				if err != nil || (cmd == root && !strings.HasPrefix(words[0], "-")) {
					t.Errorf("%s: proxyd %s: no such command", name, m[1])
					continue
				}
				seen[cmd.Name()] = true
				for _, w := range rest {
					if w == "--" { // the rest is another command's
						break
					}
					flag, _, _ := strings.Cut(strings.TrimRight(w, ",;."), "=")
					if long, ok := strings.CutPrefix(flag, "--"); ok && cmd.Flags().Lookup(long) == nil && cmd.InheritedFlags().Lookup(long) == nil {
						t.Errorf("%s: proxyd %s: no such flag", name, m[1])
					}
				}
			}
		}
	}
	for _, want := range []string{"check", "route", "env", "exchanges", "run", "schema", "health", "status", "reload", "upgrade", "drain", "probe", "import", "exec"} {
		if !seen[want] {
			t.Errorf("no document shows proxyd %s", want)
		}
	}
}

// Every command that speaks to a running daemon is in the table of docs/admin.md.
func TestDocumentedCommandsOfTheDaemon(t *testing.T) {
	_, table, _ := strings.Cut(documents(t)["admin.md"], "\n## Commands\n")
	table, _, _ = strings.Cut(table, "\n## ")
	found := 0
	for _, cmd := range rootCommand().Commands() {
		if cmd.Hidden || cmd.Flags().Lookup("admin") == nil {
			continue
		}
		found++
		if !regexp.MustCompile("(?m)^\\| `proxyd " + regexp.QuoteMeta(cmd.Name()) + "[` ]").MatchString(table) {
			t.Errorf("the table of commands does not have proxyd %s", cmd.Name())
		}
	}
	if found < 7 {
		t.Errorf("only %d commands have the flag --admin", found)
	}
}

// The defaults in docs/configuration.md are those in force.
func TestDocumentedDefaults(t *testing.T) {
	doc := documents(t)["configuration.md"]
	t.Chdir(t.TempDir()) // no proxyd.yaml here
	out, _, code := call("check", "--print")
	var printed map[string]any
	if err := yaml.Unmarshal([]byte(out), &printed); err != nil || code != 0 {
		t.Fatalf("%v, exit code %d", err, code)
	}
	force := map[string]string{}
	flatten("", printed, force)
	force["admin"] = force["admin.address"]
	delete(force, "listen") // a list
	row := regexp.MustCompile("(?m)^\\| `([a-z_.]+)`(?:, `([a-z_.]+)`)? ?†? \\| `([^`]+)`(?:, `([^`]+)`)?")
	held := 0
	for _, m := range row.FindAllStringSubmatch(doc, -1) {
		for _, pair := range [][2]string{{m[1], m[3]}, {m[2], m[4]}} {
			if got, ok := force[pair[0]]; ok && pair[1] != "" {
				held++
				if got != pair[1] {
					t.Errorf("%s: the document says %s, in force is %s", pair[0], pair[1], got)
				}
			}
		}
	}
	if held < 12 {
		t.Errorf("only %d defaults were found in the document", held)
	}
}

func flatten(path string, v any, into map[string]string) {
	below, ok := v.(map[string]any)
	if !ok {
		into[strings.TrimPrefix(path, ".")] = fmt.Sprint(v)
	}
	for key, x := range below {
		flatten(path+"."+key, x, into)
	}
}

// The variables in docs/configuration.md are taken, all of them.
func TestDocumentedVariables(t *testing.T) {
	vars := regexp.MustCompile(`(?m)^(PROXYD_[A-Z0-9_]+)=('[^']*'|\S+)`).FindAllStringSubmatch(documents(t)["configuration.md"], -1)
	if len(vars) < 4 {
		t.Fatalf("only %d", len(vars))
	}
	for _, v := range vars {
		t.Setenv(v[1], strings.Trim(v[2], "'"))
	}
	out, _, code := call("check", "--print", "-c", file(t, "log: {level: info}\n"))
	for _, want := range []string{"socks5://tokyo.example:1080", "http://tokyo.example:3128", "*.corp.example", "url: reject"} {
		if !strings.Contains(out, want) || code != 0 {
			t.Errorf("exit code %d, want %s in\n%s", code, want, out)
		}
	}
}

// No document names a metric that docs/metrics.md does not list.
func TestDocumentedMetrics(t *testing.T) {
	docs := documents(t)
	listed := map[string]bool{"proxyd_default": true} // a variable
	for _, m := range regexp.MustCompile("(?m)^\\| `(proxyd_[a-z_]+)` \\|").FindAllStringSubmatch(docs["metrics.md"], -1) {
		listed[m[1]] = true
	}
	if len(listed) < 25 {
		t.Fatalf("only %d metrics were found: %v", len(listed), listed)
	}
	for name, text := range docs {
		for _, m := range regexp.MustCompile("`(proxyd_[a-z_]+)`|expr: .*(proxyd_[a-z_]+)").FindAllStringSubmatch(text, -1) {
			if !listed[m[1]+m[2]] {
				t.Errorf("%s: metrics.md does not list %s", name, m[1]+m[2])
			}
		}
	}
}

// The first tunnel of the README leads to a host of the catalogue that answers
// without a key and everywhere: Binance, for one, turns the United States away.
func TestReadmeTunnelIsServedEverywhere(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`curl https://([^/\s]+)`).FindSubmatch(text)
	if m == nil {
		t.Fatal("it has none")
	}
	if id, _, _ := catalog.Embedded().Lookup(string(m[1])); id != "kraken" && id != "coinbase" {
		t.Errorf("%s is %q's", m[1], id)
	}
}

// configs/proxyd.full.yaml shows every key and every word that a key takes, and
// docs/configuration.md speaks of each.
func TestFullExampleShowsEveryKey(t *testing.T) {
	out, _, _ := call("schema")
	var schema any
	if err := json.Unmarshal([]byte(out), &schema); err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	schemaWords(schema, words)
	if len(words) < 80 || !words["lowest_latency"] || !words["drain_seconds"] {
		t.Fatalf("only %d words", len(words))
	}
	full, err := os.ReadFile("../../configs/proxyd.full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"configs/proxyd.full.yaml": string(full), "docs/configuration.md": documents(t)["configuration.md"]} {
		for w := range words {
			if !regexp.MustCompile(`(^|[^a-z0-9_])` + regexp.QuoteMeta(w) + `($|[^a-z0-9_])`).MatchString(text) {
				t.Errorf("%s does not show %s", name, w)
			}
		}
	}
}

// schemaWords collects the names of properties and the words of enumerations.
func schemaWords(v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, x := range v {
			if strings.HasPrefix(key, "Pasted") { // the same once more, as cryptofeed spells it
				continue
			}
			properties, ok := x.(map[string]any)
			if key == "properties" && ok {
				for name, p := range properties {
					into[name] = true
					schemaWords(p, into)
				}
				continue
			}
			if list, ok := x.([]any); ok && key == "enum" {
				for _, w := range list {
					if w, ok := w.(string); ok {
						into[w] = true
					}
				}
			}
			schemaWords(x, into)
		}
	case []any:
		for _, x := range v {
			schemaWords(x, into)
		}
	}
}

// No document promises what is there already.
func TestDocumentsPromiseNothing(t *testing.T) {
	texts := documents(t)
	examples, err := filepath.Glob("../../configs/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range examples {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(text)
	}
	for name, text := range texts {
		if m := regexp.MustCompile(`(?i).*(not yet:|not implemented|coming soon|TODO|planned).*`).FindString(text); m != "" && name != "CHANGELOG.md" {
			t.Errorf("%s: %s", name, m)
		}
	}
}
