package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

var update = flag.Bool("update", false, "write licenses.txt again")

// notice is a licence or a notice of one module.
type notice struct{ module, name, text string }

// licenses.txt has the licences and notices of every module that is linked for any
// system, with its version.
func TestLicensesAreThoseOfLinkedModules(t *testing.T) {
	modules := map[string]string{"proxyd": "../.."}
	for _, system := range []string{"linux", "darwin", "windows"} {
		linked(t, system, modules)
	}
	for module, dir := range modules {
		if strings.HasPrefix(module, "golang.org/x/net ") {
			modules["Go"] = dir // the text is Go's own, which packages of Go may lack
		}
	}
	if len(modules) < 20 {
		t.Fatalf("only %d modules: %v", len(modules), modules)
	}
	var found []notice
	for module, dir := range modules {
		found = append(found, notices(t, module, dir)...)
	}
	want := licenceText(found)
	if *update {
		if err := os.WriteFile("licenses.txt", []byte(want), 0o644); err != nil { //nolint:gosec // a public document
			t.Fatal(err)
		}
		return
	}
	if out, _, code := call("version", "--licenses"); out != want || code != 0 {
		t.Errorf("cmd/proxyd/licenses.txt is not what the linked modules have; run: go generate ./cmd/proxyd")
	}
}

// linked adds the modules that are linked for a system, and their directories.
func linked(t *testing.T, system string, modules map[string]string) {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", ".")
	list.Env = append(os.Environ(), "GOOS="+system, "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	out, err := list.Output()
	if err != nil {
		testkit.Lacks(t, "the modules for "+system+": "+err.Error())
	}
	for line := range strings.Lines(string(out)) {
		if module, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			modules[module] = dir
		}
	}
}

// notices returns the licence files of a module.
func notices(t *testing.T, module, dir string) (list []notice) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, f := range files {
		name, _, _ := strings.Cut(strings.ToUpper(f.Name()), ".")
		if name != "LICENSE" && name != "NOTICE" && name != "COPYING" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, notice{module, name, strings.Trim(string(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))), "\n")})
	}
	if !slices.ContainsFunc(list, func(n notice) bool { return n.name != "NOTICE" }) {
		t.Errorf("%s has no licence in %s", module, dir)
	}
	return list
}

// kindOf returns the SPDX identifiers of the licences in a text.
func kindOf(t string) string {
	t = strings.Join(strings.Fields(t), " ")
	var kinds []string
	for _, k := range [][2]string{
		{"Apache License", "Apache-2.0"}, {"http://www.apache.org/licenses/LICENSE-2.0", "Apache-2.0"}, {"Permission is hereby granted, free of charge", "MIT"},
		{"Neither the name", "BSD-3-Clause"}, {"Redistribution and use", "BSD-2-Clause"},
	} {
		if strings.Contains(t, k[0]) && !slices.Contains(kinds, k[1]) && !(k[1] == "BSD-2-Clause" && slices.Contains(kinds, "BSD-3-Clause")) {
			kinds = append(kinds, k[1])
		}
	}
	return strings.Join(kinds, ", ")
}

// licenceText returns what proxyd version --licenses prints: a table, then each
// text once with the modules that it is of.
func licenceText(list []notice) string {
	slices.SortFunc(list, func(a, b notice) int {
		own := func(n notice) int { return map[bool]int{true: 0, false: 1}[n.module == "proxyd"] }
		return cmp.Or(own(a)-own(b), cmp.Compare(a.name, b.name), cmp.Compare(a.module, b.module))
	})
	var b strings.Builder
	b.WriteString("The proxyd program contains these modules, under these licences. The texts follow.\n\n")
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	of := map[string][]string{}
	for _, n := range list {
		if n.name != "NOTICE" {
			fmt.Fprintf(&b, "%-60s %s\n", n.module, kindOf(n.text))
		}
		of[words(n.text)] = append(of[words(n.text)], n.module)
	}
	for _, n := range list {
		if modules := of[words(n.text)]; len(modules) > 0 {
			fmt.Fprintf(&b, "\n%s\n%s of %s\n\n%s\n", strings.Repeat("-", 80), n.name, strings.Join(modules, ",\n  "), n.text)
			delete(of, words(n.text))
		}
	}
	return b.String()
}

// Every module of the table has a licence that is known.
func TestLicensesAreKnown(t *testing.T) {
	table, _, _ := strings.Cut(licenses, "\n---")
	_, table, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(strings.TrimSpace(table), "\n")
	if len(rows) < 20 {
		t.Fatalf("only %d rows:\n%s", len(rows), table)
	}
	for _, row := range rows {
		if words := strings.Fields(row); len(words) < 2 || !strings.ContainsAny(words[len(words)-1], "-M") {
			t.Errorf("%s: which licence is it?", row)
		}
	}
}
