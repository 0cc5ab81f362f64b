package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/catalog"
)

// Ten different faults are ten lines, each with its place, on standard output.
func TestTenFaultsAreTenLines(t *testing.T) {
	want, err := os.ReadFile("testdata/ten-faults.want")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(want, []byte("\n")); n != 10 {
		t.Fatalf("%d lines are wanted", n)
	}
	out, errOut, code := call("check", "-c", "testdata/ten-faults.yaml")
	if diff := cmp.Diff(string(want), out); diff != "" || errOut != "" || code != 1 {
		t.Errorf("exit code %d, standard error %q, (-want +got):\n%s", code, errOut, diff)
	}
	// The daemon says the same, on standard error.
	_, errOut, code = call("run", "-c", "testdata/ten-faults.yaml")
	if diff := cmp.Diff(string(want), strings.ReplaceAll(errOut, "proxyd: ", "")); diff != "" || code != 1 {
		t.Errorf("run: exit code %d, (-want +got):\n%s", code, diff)
	}
	// And for programs.
	out, _, code = call("check", "-c", "testdata/ten-faults.yaml", "--format", "json")
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

func TestCheckForProgramsKnowsVariablesAndWarnings(t *testing.T) {
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
func TestStrict(t *testing.T) {
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
func TestPrintedConfigurationIsOne(t *testing.T) {
	t.Setenv("PW", "geheim-7")
	out, errOut, code := call("check", "-c", file(t, twoWays), "--print")
	if code != 0 || !strings.Contains(errOut, "warning: ") {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	again, _, code := call("check", "-c", file(t, out), "--print")
	if diff := cmp.Diff(out, again); diff != "" || code != 0 {
		t.Errorf("exit code %d\n%s", code, diff)
	}
	if out, _, code := call("check", "-c", file(t, "routs: []\n"), "--print"); code != 1 || !strings.Contains(out, "did you mean routes?") {
		t.Errorf("of a faulty file: exit code %d\n%s", code, out)
	}
}

// A pool without an enabled member refuses, and route says so.
func TestRouteThroughAPoolWithoutAnEnabledMember(t *testing.T) {
	t.Parallel()
	path := file(t, "pools: {asia: {proxies: [{url: 'http://a.example:1', enabled: false}]}}\ndefault: direct\nexchanges: {okx: asia}\n")
	out, _, code := call("route", "-c", path, "www.okx.com")
	if want := "no member of asia is enabled: 503 no_upstream"; code != 1 || !strings.Contains(out, want) {
		t.Errorf("exit code %d, %s; want 1 and %q", code, out, want)
	}
	if out, _, code = call("check", "-c", path); code != 0 || !strings.Contains(out, "pools.asia: no member is enabled") {
		t.Errorf("check: exit code %d, %s", code, out)
	}
}

func TestRouteAtAListener(t *testing.T) {
	path := file(t, "listen: [\"127.0.0.1:8877\", {address: \"127.0.0.1:8879\", use: \"http://one.example:1\", kind: websocket}]\ndefault: direct\nexchanges: {kraken: reject}\nroutes: [{hosts: [bad.example], use: reject}]\n")
	for _, c := range []struct{ listener, host, want string }{
		{"", "ws.kraken.com", "refused"},
		{"127.0.0.1:8877", "a.example", "direct"},
		{"127.0.0.1:8879", "ws.kraken.com", "one.example:1"},
		{"127.0.0.1:8879", "bad.example", "refused"},
	} {
		args := []string{"route", "-c", path, c.host}
		if c.listener != "" {
			args = append(args, "--listener", c.listener)
		}
		out, errOut, _ := call(args...)
		if !strings.Contains(out, c.want) {
			t.Errorf("%s at %q: want %q in\n%s%s", c.host, c.listener, c.want, out, errOut)
		}
	}
}

func TestExchangesForPrograms(t *testing.T) {
	out, _, code := call("exchanges", "--format", "json")
	var all []exchangeJSON
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 || len(all) != len(catalog.Embedded().IDs()) {
		t.Fatalf("%v, exit code %d, %d exchanges", err, code, len(all))
	}
	out, _, _ = call("exchanges", "binance_usdm", "--format", "json")
	var one []exchangeJSON
	if err := json.Unmarshal([]byte(out), &one); err != nil || len(one) != 1 || one[0].ID != "binance_futures" || len(one[0].Hosts) == 0 || len(one[0].Family) == 0 {
		t.Errorf("%v\n%s", err, out)
	}
	text, _, _ := call("exchanges", "binance_futures")
	for _, want := range []string{"aliases:", "clients of it may also reach: ", one[0].Hosts[0].Name} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}

func TestSchemaIsJSON(t *testing.T) {
	out, _, code := call("schema")
	var schema map[string]any
	if err := json.Unmarshal([]byte(out), &schema); err != nil || code != 0 || schema["$defs"] == nil {
		t.Errorf("%v, exit code %d", err, code)
	}
}

func TestCompletionOfEveryShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, _, code := call("completion", shell); code != 0 || !strings.Contains(out, "proxyd") {
			t.Errorf("%s: exit code %d", shell, code)
		}
	}
	for _, args := range [][]string{{"completion"}, {"completion", "tcsh"}} {
		if _, errOut, code := call(args...); code != 2 || !strings.Contains(errOut, "powershell") {
			t.Errorf("%v: exit code %d: %s", args, code, errOut)
		}
	}
}

func TestUsageFaultsOfEveryCommand(t *testing.T) {
	for _, cmd := range rootCommand().Commands() {
		name := cmd.Name()
		if _, errOut, code := call(name, "--no-such-flag"); code != 2 || !strings.Contains(errOut, "Run 'proxyd --help'") {
			t.Errorf("%s --no-such-flag: exit code %d: %s", name, code, errOut)
		}
		if name != "route" && name != "drain" && name != "resume" {
			if _, errOut, code := call(name, "one", "two"); code != 2 || !strings.Contains(errOut, "Run 'proxyd --help'") {
				t.Errorf("%s one two: exit code %d: %s", name, code, errOut)
			}
		}
	}
}

func TestRouteOfAHostThatTheCatalogueLacks(t *testing.T) {
	path := file(t, "default: direct\nexchanges: {binance: 'socks5://tokyo.example:1080', okx: reject}\n")
	out, _, code := call("route", "-c", path, "new-stream.binance.com")
	if code != 0 || !strings.Contains(out, "  rule      domain binance.com (host not in the catalogue)\n") || !strings.Contains(out, "  exchange  binance\n") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	out, _, code = call("route", "-c", path, "new.okx.com")
	if code != 1 || !strings.Contains(out, "  rule      domain okx.com (host not in the catalogue)\n") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestExchangesShowsRowsOfTheUsersOwn(t *testing.T) {
	rows := file(t, "exchange,host,kind,env,sources\nmy_venue,api.venue.example,http,live,\n")
	path := file(t, "catalog: "+rows+"\ndefault: direct\n")
	out, errOut, code := call("exchanges", "-c", path, "my_venue")
	if code != 0 || errOut != "" || !strings.Contains(out, "api.venue.example") {
		t.Errorf("exit code %d, %s\n%s", code, errOut, out)
	}
	out, errOut, code = call("exchanges", "-c", file(t, "catalog: /no/such.csv\n"), "binance")
	if code != 0 || !strings.Contains(out, "owns the domains: binance.com binance.vision") || !strings.Contains(errOut, "are left out") {
		t.Errorf("exit code %d, %s\n%s", code, errOut, out)
	}
}
