package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestEnvInEveryShell(t *testing.T) {
	path := file(t, "listen: 127.0.0.1:9999\n")
	for shell, want := range map[string]string{
		"sh":         "export https_proxy=http://127.0.0.1:9999\n",
		"bash":       "export https_proxy=http://127.0.0.1:9999\n",
		"pwsh":       "$env:WSS_PROXY = \"http://127.0.0.1:9999\"\n",
		"fish":       "set -gx HTTPS_PROXY http://127.0.0.1:9999\n",
		"powershell": "$env:WSS_PROXY = \"http://127.0.0.1:9999\"\n",
		"docker":     "-e ALL_PROXY=http://127.0.0.1:9999\n",
		"systemd":    "[Service]\nEnvironment=HTTP_PROXY=http://127.0.0.1:9999\n",
	} {
		out, _, code := call("env", "-c", path, "--shell", shell)
		if code != 0 || !strings.Contains(out, want) || !strings.Contains(out, "169.254.169.254") || strings.Count(out, "\n") < 12 {
			t.Errorf("%s: exit code %d, want %q in\n%s", shell, code, want, out)
		}
	}
	for _, client := range clientNames() {
		if out, _, code := call("env", "-c", path, "--for", client); code != 0 || !strings.Contains(out, "9999") {
			t.Errorf("%s: exit code %d\n%s", client, code, out)
		}
	}
}

// Clients are pointed at the listener that serves all of them, or the one that
// is named, with the name and password that it wants.
func TestEnvPointsAtAListener(t *testing.T) {
	all := file(t, `listen:
  - {address: 127.0.0.1:9001, use: direct}
  - {address: 127.0.0.1:9002, auth: {users: [{name: bot, password: geheim-7}]}}
  - {address: 127.0.0.1:9003, tls: {cert_file: /c.pem, key_file: /k.pem}}
  - {address: 127.0.0.1:9004, kind: websocket}
  - "[::1]:9005"
`)
	one := func(listener string) string { return file(t, "listen: "+listener+"\n") }
	for name, c := range map[string]struct {
		args []string
		want string // in the output, or what the error says
		says string // on standard error
		code int
	}{
		"the first plain one":          {[]string{"-c", all}, "HTTPS_PROXY=http://[::1]:9005\n", "", 0},
		"one with a use":               {[]string{"-c", all, "--listener", "127.0.0.1:9001"}, "HTTPS_PROXY=http://127.0.0.1:9001\n", "", 0},
		"only one with a use":          {[]string{"-c", one("{address: 127.0.0.1:9001, use: direct}")}, "HTTPS_PROXY=http://127.0.0.1:9001\n", "leaves through its use", 0},
		"a password":                   {[]string{"-c", all, "--listener", "127.0.0.1:9002"}, "HTTPS_PROXY=http://127.0.0.1:9002\n", "--user NAME:PASSWORD", 0},
		"a password, for a client":     {[]string{"-c", all, "--listener", "127.0.0.1:9002", "--for", "curl"}, "http://127.0.0.1:9002", "--user NAME:PASSWORD", 0},
		"a password that is named":     {[]string{"-c", all, "--listener", "127.0.0.1:9002", "--user", "bot:p@$ '1"}, "HTTPS_PROXY=http://bot:p%40%24%20%271@127.0.0.1:9002\n", "", 0},
		"a password, for systemd":      {[]string{"-c", all, "--listener", "127.0.0.1:9002", "--user", "bot:p@$ '1", "--shell", "systemd"}, "HTTPS_PROXY=http://bot:p%%40%%24%%20%%271@127.0.0.1:9002\n", "", 0},
		"a name alone, and auth":       {[]string{"-c", all, "--listener", "127.0.0.1:9002", "--user", "bot"}, "", "needs a password: NAME:PASSWORD", 2},
		"a label":                      {[]string{"-c", all, "--user", "bot-1"}, "HTTPS_PROXY=http://bot-1:x@[::1]:9005\n", "", 0},
		"a label, for a client":        {[]string{"-c", all, "--user", "bot-1", "--for", "websocket-client"}, `http_proxy_auth=("bot-1", "x")`, "", 0},
		"no such listener":             {[]string{"-c", all, "--listener", "127.0.0.1:1"}, "", "127.0.0.1:9001, 127.0.0.1:9002", 2},
		"the port that the log says":   {[]string{"-c", one("127.0.0.1:0"), "--listener", "127.0.0.1:33000"}, "HTTPS_PROXY=http://127.0.0.1:33000\n", "", 0},
		"a port that is not known yet": {[]string{"-c", one("127.0.0.1:0")}, "", "chosen when the daemon starts", 1},
		"TLS":                          {[]string{"-c", all, "--listener", "127.0.0.1:9003"}, "HTTPS_PROXY=https://127.0.0.1:9003\n", "", 0},
		"IPv6, for Java":               {[]string{"-c", all, "--for", "java"}, "-Dhttps.proxyHost=::1 -Dhttps.proxyPort=9005 ", "", 0},
	} {
		out, errOut, code := call(append([]string{"env"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.want) || !strings.Contains(errOut, c.says) || (c.says == "" && errOut != "" && !strings.Contains(errOut, "has errors")) {
			t.Errorf("%s: exit code %d\n%s%s", name, code, out, errOut)
		}
		if strings.Contains(out+errOut, "geheim-7") {
			t.Errorf("%s: a password is printed", name)
		}
	}
}

// Websockets say their kind where a host serves both kinds and the kinds leave
// by different outbounds.
func TestEnvAddsKindLabel(t *testing.T) {
	const split = "exchanges: {bitfinex: {http: direct, websocket: \"http://h.example:1\"}}\n"
	for name, c := range map[string]struct {
		text string
		args []string
		want string // of WSS_PROXY
	}{
		"a split host":             {split, nil, "http://feed+websocket:x@127.0.0.1:9"},
		"alike":                    {"exchanges: {bitfinex: direct}\n", nil, "http://127.0.0.1:9"},
		"no shared host":           {"exchanges: {coinbase: {http: direct, websocket: \"http://h.example:1\"}}\n", nil, "http://127.0.0.1:9"},
		"asked for":                {"", []string{"--kind-label"}, "http://feed+websocket:x@127.0.0.1:9"},
		"with a label":             {split, []string{"--user", "bot"}, "http://bot+websocket:x@127.0.0.1:9"},
		"with a name and password": {split, []string{"--user", "bot:pw"}, "http://bot+websocket:pw@127.0.0.1:9"},
	} {
		out, errOut, code := call(append([]string{"env", "-c", file(t, "listen: 127.0.0.1:9\n"+c.text)}, c.args...)...)
		got := map[string]string{}
		for _, m := range regexp.MustCompile("(?m)^export ([A-Za-z_]+)=(.*)$").FindAllStringSubmatch(out, -1) {
			got[m[1]] = m[2]
		}
		for _, variable := range []string{"WS_PROXY", "WSS_PROXY", "ws_proxy", "wss_proxy"} {
			if got[variable] != c.want {
				t.Errorf("%s: %s is %s, want %s", name, variable, got[variable], c.want)
			}
		}
		if strings.Contains(got["HTTPS_PROXY"]+got["ALL_PROXY"], "+websocket") || code != 0 {
			t.Errorf("%s: exit code %d\n%s%s", name, code, out, errOut)
		}
	}
	auth := file(t, "listen: {address: 127.0.0.1:9, auth: {users: [{name: bot, password: pw}]}}\n"+split)
	if out, _, _ := call("env", "-c", auth); strings.Contains(out, "+websocket") {
		t.Errorf("a label in place of a user:\n%s", out)
	}
}

// The drop-in that is shipped for feeds is what env prints for the default listener.
func TestEnvIsTheShippedDropIn(t *testing.T) {
	shipped, err := os.ReadFile("../../deploy/systemd/feed.conf")
	if err != nil {
		t.Fatal(err)
	}
	comment := regexp.MustCompile(`(?m)^#.*\n`)
	want := strings.TrimLeft(comment.ReplaceAllString(string(shipped), ""), "\n")
	if got, _, _ := call("env", "-c", file(t, "default: direct\n"), "--shell", "systemd"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
