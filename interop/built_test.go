//go:build interop

package interop

import (
	"bytes"
	"cmp"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// source is one part of a client, in a package or module of its own.
type source struct{ client, part, name, text string }

// sourcesOf returns the programs of a language.
func sourcesOf(list []*client, language string) (sources []source) {
	for _, c := range list {
		if c.language != language {
			continue
		}
		for _, part := range clientParts {
			if text := c.parts[part]; text != "" {
				sources = append(sources, source{c.id, part, moduleName(c.id, part), text})
			}
		}
	}
	return sources
}

// moduleName returns a name that is one in Go, Rust and Java.
func moduleName(id, part string) string {
	return regexp.MustCompile("[^a-z0-9]").ReplaceAllString(id+"_"+part, "_")
}

// buildClients builds the programs of the compiled languages, those of a language at
// once: built/ID PART runs one.
func buildClients(t *testing.T, list []*client) {
	t.Helper()
	built := filepath.Join(dir, "built")
	t.Setenv("CLIENTS_BUILT", built) // for the workers
	if err := os.MkdirAll(built, 0o755); err != nil {
		t.Fatal(err)
	}
	for language, build := range map[string]func(*testing.T, string, []source) string{"go": buildGo, "rust": buildRust, "java": buildJava} {
		sources := sourcesOf(list, language)
		if len(sources) == 0 {
			continue
		}
		program := build(t, built, sources)
		for _, s := range sources {
			link := filepath.Join(built, s.client)
			if err := os.Symlink(program, link); err != nil && !os.IsExist(err) {
				t.Fatal(err)
			}
		}
	}
}

// buildGo makes one program of all: its name and first argument say which it is.
func buildGo(t *testing.T, built string, sources []source) string {
	in := filepath.Join(built, "go-source")
	copyFiles(t, in, "interop/clients/go/go.mod", "interop/clients/go/go.sum")
	var imports, cases strings.Builder
	for _, s := range sources {
		if text, err := format.Source([]byte(s.text)); err != nil || string(text) != s.text {
			t.Errorf("%s, %s: not as gofmt has it (%v):\n%s", s.client, s.part, err, text)
		}
		text := strings.Replace(s.text, "package main\n", "package "+s.name+"\n", 1)
		writeChanged(t, filepath.Join(in, s.name, "main.go"), strings.Replace(text, "\nfunc main() {", "\nfunc Main() {", 1))
		fmt.Fprintf(&imports, "\t\"clients/%s\"\n", s.name)
		fmt.Fprintf(&cases, "\tcase %q:\n\t\t%s.Main()\n", s.client+" "+s.part, s.name)
	}
	writeChanged(t, filepath.Join(in, "main.go"), fmt.Sprintf("package main\n\nimport (\n\t\"os\"\n\t\"path/filepath\"\n%s)\n\nfunc main() {\n\tswitch filepath.Base(os.Args[0]) + \" \" + os.Args[1] {\n%s\tdefault:\n\t\tos.Exit(2)\n\t}\n}\n",
		imports.String(), cases.String()))
	program := filepath.Join(built, "go-programs")
	command(t, in, cmp.Or(os.Getenv("GO"), "go"), "build", "-trimpath", "-o", program, ".")
	return program
}

var rustMain = regexp.MustCompile(`(?m)^(async )?fn main\(`)

// buildRust makes one program of all, as buildGo does. What it depends on stays built in CLIENTS_DIR.
func buildRust(t *testing.T, built string, sources []source) string {
	in := filepath.Join(os.Getenv("CLIENTS_DIR"), "rust-matrix")
	copyFiles(t, in, "interop/clients/rust/Cargo.toml", "interop/clients/rust/Cargo.lock")
	var modules, cases strings.Builder
	for _, s := range sources {
		writeChanged(t, filepath.Join(in, "src", s.name+".rs"), rustMain.ReplaceAllString(s.text, "pub ${1}fn main("))
		fmt.Fprintf(&modules, "mod %s;\n", s.name)
		fmt.Fprintf(&cases, "        %q => %s::main().report(),\n", s.client+" "+s.part, s.name)
	}
	writeChanged(t, filepath.Join(in, "src", "main.rs"), modules.String()+`
fn main() -> std::process::ExitCode {
    use std::process::Termination;
    let args: Vec<String> = std::env::args().collect();
    let client = args[0].rsplit('/').next().unwrap();
    match format!("{client} {}", args[1]).as_str() {
`+cases.String()+`        _ => std::process::ExitCode::from(2),
    }
}
`)
	command(t, in, "cargo", "build", "--quiet", "--offline", "--locked", "--target-dir", filepath.Join(in, "target"))
	program := filepath.Join(built, "rust-programs")
	command(t, in, "cp", filepath.Join(in, "target", "debug", "clients"), program)
	return program
}

// buildJava makes a class of each program, and a script that starts the JVM with the
// exchange's CA in its trust store.
func buildJava(t *testing.T, built string, sources []source) string {
	in, classes := filepath.Join(built, "java-source"), filepath.Join(built, "java-classes")
	path := filepath.Join(os.Getenv("CLIENTS_JAVA"), "*")
	args := []string{"javac", "-proc:none", "-cp", path, "-d", classes}
	for _, s := range sources {
		file := filepath.Join(in, s.name, "App.java")
		writeChanged(t, file, "package "+s.name+";\n"+s.text)
		args = append(args, file)
	}
	command(t, built, args...)
	program := filepath.Join(built, "java-programs")
	writeChanged(t, program, fmt.Sprintf(`#!/bin/sh
set -e
store=${SSL_CERT_FILE%%.pem}.p12
[ -e "$store" ] || keytool -importcert -noprompt -storetype PKCS12 -storepass changeit -file "$SSL_CERT_FILE" -keystore "$store" >/dev/null 2>&1
class=$(printf %%s "${0##*/}_$1" | tr -c a-z0-9 _).App
exec java -XX:TieredStopAtLevel=1 -Djavax.net.ssl.trustStore="$store" -Djavax.net.ssl.trustStorePassword=changeit -cp '%s:%s' "$class"
`, classes, path))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

// copyFiles copies files into a directory.
func copyFiles(t *testing.T, into string, files ...string) {
	t.Helper()
	for _, f := range files {
		writeChanged(t, filepath.Join(into, filepath.Base(f)), readFile(t, f))
	}
}

// writeChanged writes a file that has not this text yet: what is built of it stays.
func writeChanged(t *testing.T, path, text string) {
	t.Helper()
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, []byte(text)) {
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command runs one that must work.
func command(t *testing.T, in string, argv ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir = in
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}
