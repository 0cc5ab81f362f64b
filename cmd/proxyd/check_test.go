package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Ten different errors are ten lines, each with its position, on standard output.
func TestCheckReportsEveryError(t *testing.T) {
	want, err := os.ReadFile("testdata/ten-errors.want")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(want, []byte("\n")); n != 10 {
		t.Fatalf("%d lines are wanted", n)
	}
	out, errOut, code := call("check", "-c", "testdata/ten-errors.yaml")
	if diff := cmp.Diff(string(want), out); diff != "" || errOut != "" || code != 1 {
		t.Errorf("exit code %d, standard error %q, (-want +got):\n%s", code, errOut, diff)
	}
	// The daemon says the same, on standard error.
	_, errOut, code = call("run", "-c", "testdata/ten-errors.yaml")
	if diff := cmp.Diff(string(want), strings.ReplaceAll(errOut, "proxyd: ", "")); diff != "" || code != 1 {
		t.Errorf("run: exit code %d, (-want +got):\n%s", code, diff)
	}
	// And for programs.
	out, _, code = call("check", "-c", "testdata/ten-errors.yaml", "--format", "json")
	var got checkResult
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || len(got.Errors) != 10 || got.OK {
		t.Fatalf("%v, exit code %d\n%s", err, code, out)
	}
	var lines strings.Builder
	for _, f := range got.Errors {
		lines.WriteString(f.String() + "\n")
	}
	if diff := cmp.Diff(string(want), lines.String()); diff != "" {
		t.Errorf("in JSON (-want +got):\n%s", diff)
	}
}

func TestCheckJSONHasVariablesAndWarnings(t *testing.T) {
	t.Setenv("PROXYD_LISTN", "1")
	out, _, code := call("check", "-c", file(t, "default: direct\n"), "--format", "json")
	var got checkResult
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || len(got.Errors) != 1 {
		t.Fatalf("%v, exit code %d\n%s", err, code, out)
	}
	for _, key := range []string{`"faults": [`, `"env": `, `"what": `, `"do": `, `"warnings": []`} {
		if !strings.Contains(out, key) {
			t.Errorf("no %s in\n%s", key, out)
		}
	}
	if f := got.Errors[0]; f.Var != "PROXYD_LISTN" || f.Line != 0 || f.Key != "listn" || f.Hint != "did you mean listen?" {
		t.Errorf("%+v", f)
	}
	t.Setenv("PROXYD_LISTN", "")
	if err := os.Unsetenv("PROXYD_LISTN"); err != nil {
		t.Fatal(err)
	}
	out, _, code = call("check", "-c", file(t, "exchanges: {binance: reject}\ndefault: socks4://192.0.2.1:1080\n"), "--format", "json")
	got = checkResult{}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || !got.OK || len(got.Errors) != 0 || len(got.Warnings) != 2 {
		t.Fatalf("%v, exit code %d\n%s", err, code, out)
	}
	if w := got.Warnings[0]; w.Line != 2 || w.Key != "default" || !strings.Contains(w.Message, "socks4 has no names") {
		t.Errorf("%+v", w)
	}
}

// Warnings of every sort count with --strict: keys, families, and what goes
// direct since nothing else is written.
func TestCheckStrict(t *testing.T) {
	for name, c := range map[string]struct {
		yaml, warning string // "" for none
	}{
		"nothing to say":  {"default: direct\n", ""},
		"no default":      {"exchanges: {kucoin: reject}\n", "unlisted hosts: DIRECT (no default)"},
		"family":          {"default: direct\nexchanges: {binance: reject}\n", "binance_futures, binance_delivery have no entry: default (direct); add binance_futures: reject"},
		"not enabled":     {"enabled: false\ndefault: http://h.example:1\n", "enabled is false"},
		"socks4":          {"default: socks4://192.0.2.1:1080\n", "socks4 has no names"},
		"refused by CIDR": {"default: socks5://192.0.2.1:1080\nroutes: [{hosts: [10.0.0.0/8], use: reject}]\n", "a name that leads there is resolved by the upstream"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, c.yaml)
			if _, _, code := call("check", "-c", path); code != 0 {
				t.Errorf("without --strict: exit code %d", code)
			}
			for _, format := range []string{"text", "json"} {
				out, _, code := call("check", "-c", path, "--strict", "--format", format)
				if want := min(len(c.warning), 1); code != want || !strings.Contains(out, c.warning) {
					t.Errorf("exit code %d, want %d and %q in\n%s", code, want, c.warning, out)
				}
			}
		})
	}
}

// What --print writes to standard output is a configuration that loads.
func TestCheckPrintsConfigurationThatLoads(t *testing.T) {
	t.Setenv("PW", "geheim-7")
	out, errOut, code := call("check", "-c", file(t, byKind), "--print")
	if code != 0 || !strings.Contains(errOut, "warning: ") {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	again, _, code := call("check", "-c", file(t, out), "--print")
	if diff := cmp.Diff(out, again); diff != "" || code != 0 {
		t.Errorf("exit code %d\n%s", code, diff)
	}
	if out, _, code := call("check", "-c", file(t, "routs: []\n"), "--print"); code != 1 || !strings.Contains(out, "did you mean routes?") {
		t.Errorf("of an invalid file: exit code %d\n%s", code, out)
	}
}

func TestSchemaIsJSON(t *testing.T) {
	out, _, code := call("schema")
	var schema map[string]any
	if err := json.Unmarshal([]byte(out), &schema); err != nil || code != 0 || schema["$defs"] == nil {
		t.Errorf("%v, exit code %d", err, code)
	}
}

func TestCheckJSON(t *testing.T) {
	out, _, code := call("check", "-c", file(t, "exchanges: {binence: direct}\nwatch: 7\n"), "--format", "json")
	var got checkResult
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 {
		t.Fatalf("%v, exit code %d\n%s", err, code, out)
	}
	if len(got.Errors) != 2 || got.OK || got.Errors[0].Line != 1 || got.Errors[0].Col != 13 || got.Errors[0].Key != "exchanges.binence" || got.Errors[1].Line != 2 {
		t.Errorf("%+v", got)
	}
}

func TestCheckPrintsWithoutSecrets(t *testing.T) {
	t.Setenv("PW", "geheim-7")
	out, errOut, code := call("check", "-c", file(t, byKind), "--print")
	if code != 0 || !strings.Contains(out, "tokyo.example:1080") || !strings.Contains(out, "attempt_seconds: 1.5") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if strings.Contains(out+errOut, "geheim-7") || strings.Contains(out+errOut, "bob") {
		t.Errorf("a secret is printed:\n%s%s", out, errOut)
	}
}
