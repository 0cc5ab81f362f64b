package daemon

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"proxyd/internal/event"
)

// docs/operations.md names every field of the line that a tunnel, request or
// refusal is logged with, and no line that is not logged.
func TestDocumentedLogFields(t *testing.T) {
	source, err := os.ReadFile("record.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Log\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, body, _ := strings.Cut(string(source), ") MarshalLogObject(")
	body, _, _ = strings.Cut(body, "\n}\n")
	fields := regexp.MustCompile(`enc\.Add[A-Za-z0-9]*\("([a-z_]+)"`).FindAllStringSubmatch(body, -1)
	if len(fields) < 15 {
		t.Fatalf("only %d fields", len(fields))
	}
	for _, f := range fields {
		if !strings.Contains(section, "`"+f[1]+"`") {
			t.Errorf("the document does not name the field %s", f[1])
		}
	}
	var announced []byte
	for _, name := range []string{"daemon.go", "events.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		announced = append(announced, text...)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (info|warn|debug)").FindAllStringSubmatch(section, -1) {
		if !strings.Contains(string(source)+string(announced), `"`+m[1]+`"`) {
			t.Errorf("the document shows a line %q that is not logged", m[1])
		}
	}
}

// docs/operations.md has a row for each type of event, with its severities, and no other.
func TestDocumentedEvents(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Events\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []event.Type
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| [^|]+ \\|[^|]*\\|$").FindAllStringSubmatch(section, -1) {
		rows = append(rows, event.Type(m[1]))
		if !slices.ContainsFunc(event.Severities[:], func(s event.Severity) bool { return strings.Contains(m[2], string(s)) }) {
			t.Errorf("%s: %q names no severity", m[1], m[2])
		}
	}
	for _, typ := range event.Types {
		if n := len(slices.DeleteFunc(slices.Clone(rows), func(r event.Type) bool { return r != typ })); n != 1 {
			t.Errorf("%d rows for %s", n, typ)
		}
	}
	if len(rows) != len(event.Types) {
		t.Errorf("%d rows for %d types", len(rows), len(event.Types))
	}
}
