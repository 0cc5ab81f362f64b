//go:build unix

package main

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The shell itself takes what env prints for it.
func TestEnvIsEvaluated(t *testing.T) {
	out, _, code := call("env", "-c", file(t, "listen: \"[::]:9999\"\nallow_private: []\n"))
	if code != 1 {
		t.Fatalf("of a faulty file: exit code %d\n%s", code, out)
	}
	out, _, _ = call("env", "-c", file(t, "listen: {address: \"0.0.0.0:9999\", allow: [10.0.0.0/8]}\n"))
	script := out + `echo "$HTTPS_PROXY $https_proxy $HTTP_PROXY $http_proxy $WS_PROXY $wss_proxy $WSS_PROXY $ALL_PROXY $all_proxy"; echo "$NO_PROXY $no_proxy"`
	got, err := exec.Command("sh", "-c", script).Output() //nolint:gosec // what is under test
	const p, no = "http://127.0.0.1:9999", "localhost,127.0.0.1,::1,169.254.169.254,metadata.google.internal"
	if want := strings.TrimSuffix(strings.Repeat(p+" ", 9), " ") + "\n" + no + " " + no + "\n"; err != nil || string(got) != want {
		t.Errorf("%v: got %s, want %s", err, got, want)
	}
}

// docs/clients.md tells readers to set what env prints.
func TestDocumentedClientVariables(t *testing.T) {
	block := regexp.MustCompile("(?ms)^```sh\n(P=.*?)^```$").FindStringSubmatch(documents(t)["clients.md"])
	if block == nil {
		t.Fatal("no block that begins with P=")
	}
	printed, _, _ := call("env", "-c", file(t, "log: {level: info}\n"))
	var got [2][]string
	for i, script := range []string{block[1], printed} {
		cmd := exec.Command("sh", "-c", script+"\nexport -p") //nolint:gosec // what is under test
		cmd.Env = []string{}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(strings.ToUpper(line), "_PROXY") {
				got[i] = append(got[i], line)
			}
		}
		slices.Sort(got[i])
	}
	if diff := cmp.Diff(got[1], got[0]); diff != "" || len(got[0]) != 13 {
		t.Errorf("%d variables (-env +document):\n%s", len(got[0]), diff)
	}
}
