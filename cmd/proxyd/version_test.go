package main

import (
	"strings"
	"testing"

	"proxyd/internal/catalog"
)

func TestVersionShowsCatalogueDate(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--format", "json"}} {
		if out, _, code := call(args...); code != 0 || !strings.Contains(out, catalog.Date()) || !strings.Contains(out, version) {
			t.Errorf("%v: exit code %d\n%s", args, code, out)
		}
	}
}
