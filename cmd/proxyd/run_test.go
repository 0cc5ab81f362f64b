package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunFails(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	invalid, missing := "testdata/ten-errors.yaml", filepath.Join(t.TempDir(), "proxyd.yaml")
	for name, c := range map[string]struct {
		environ []string
		args    []string
		says    string
	}{
		"the address is taken":       {nil, []string{"run", "-c", file(t, fmt.Sprintf("listen: %s\n", taken.Addr()))}, taken.Addr().String()},
		"a missing $PROXYD_CONFIG":   {[]string{"PROXYD_CONFIG=" + missing}, nil, missing + ": does not exist"},
		"an empty $PROXYD_CONFIG":    {[]string{"PROXYD_CONFIG=" + file(t, "\n")}, []string{"run"}, "is empty"},
		"an invalid file":            {nil, []string{"-c", invalid}, invalid + ":14:1: routs: unknown key"},
		"a variable that is no key":  {[]string{"PROXYD_LISTN=x"}, []string{"run"}, "env PROXYD_LISTN: listn: unknown key; did you mean listen?"},
		"a certificate that is gone": {nil, []string{"run", "-c", file(t, "listen: {address: \"127.0.0.1:0\", tls: {cert_file: /nonexistent/c.pem, key_file: /nonexistent/k.pem}}\n")}, "/nonexistent/c.pem"},
	} {
		p := start(t, c.environ, c.args...)
		log, code := p.exit(t)
		if code != 1 || !strings.Contains(log, c.says) {
			t.Errorf("%s: exit code %d, want 1 and %q in\n%s", name, code, c.says, log)
		}
	}
}
