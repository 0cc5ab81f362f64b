package daemon

import (
	"os"
	"regexp"
	"strings"
	"testing"
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
	announced, err := os.ReadFile("daemon.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (info|warn|debug)").FindAllStringSubmatch(section, -1) {
		if !strings.Contains(string(source)+string(announced), `"`+m[1]+`"`) {
			t.Errorf("the document shows a line %q that is not logged", m[1])
		}
	}
}
