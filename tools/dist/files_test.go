package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var (
	link   = regexp.MustCompile(`\]\(([^)#\s]+)`)
	source = regexp.MustCompile(`^(\.\./)?((internal|cmd|e2e|interop|bench|tools)/|.*\.go$)`)
)

// A document in an archive links to what the archive has, or to the source.
func TestLinksOfArchivedDocuments(t *testing.T) {
	checkLinks(t, filepath.Join(built(t), "build", "files"))
}

// checkLinks compares the links of the documents in dir and dir/docs with the files
// that are there.
func checkLinks(t *testing.T, dir string) {
	t.Helper()
	checked := 0
	for _, glob := range []string{"*.md", "docs/*.md"} {
		names, err := filepath.Glob(filepath.Join(dir, glob))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range link.FindAllStringSubmatch(string(text), -1) {
				if source.MatchString(m[1]) || regexp.MustCompile(`^[a-z]+:`).MatchString(m[1]) {
					continue
				}
				checked++
				if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
					t.Errorf("%s links to %s, which is not there", filepath.Base(name), m[1])
				}
			}
		}
	}
	if checked < 100 {
		t.Errorf("%d links", checked)
	}
}
