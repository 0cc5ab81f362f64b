package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// commands are those that read the configuration.
var commands = [][]string{
	{"check"}, {"check", "--print"}, {"check", "--format", "json"}, {"check", "--strict"}, {"check", "--no-secrets", "--print"},
	{"route", "lit0.example", "via-lit1.example:443", "via-wrong2.example"}, {"route", "--kind", "websocket", "api.binance.com"},
	{"health", "--timeout-seconds", "0.1"}, {"env"}, {"env", "--for", "ccxt"}, {"exchanges", "binance"}, {"version"},
}

// Promise (security): passwords appear in the output of no command.
func TestPasswordsShowInNoCommand(t *testing.T) {
	m := newMarked(t)
	file := writeConfig(t, m.yaml)
	for _, args := range commands {
		out, code := run(t, m.environ, append(args, "-c", file)...)
		noMark(t, strings.Join(args, " "), out)
		if args[0] == "check" && !slices.Contains(args, "--strict") && code != 0 {
			t.Errorf("%v: exit code %d\n%s", args, code, out)
		}
	}
	out, _ := run(t, m.environ, "check", "--print", "-c", file)
	if !strings.Contains(out, "***") {
		t.Errorf("nothing is masked:\n%s", out)
	}
}

// broken is configurations with one fault each, a password (@) near it. All
// are refused, and none repeats the password.
var broken = map[string]string{
	"no port":                  "default: \"socks5://u:@@h.example\"\n",
	"a port that is none":      "default: \"socks5://u:@@h.example:x\"\n",
	"a port too large":         "default: \"http://u:@@h.example:70000\"\n",
	"an unknown scheme":        "default: \"ftp://u:@@h.example:1080\"\n",
	"a path":                   "default: \"http://u:@@h.example:1080/path\"\n",
	"a query":                  "default: \"http://u:@@h.example:1080?x=y\"\n",
	"a bad escape":             "default: \"http://u:%zz@@h.example:1080\"\n",
	"a line break":             "default: \"http://u:\\n@@h.example:1080\"\n",
	"a user of SOCKS4":         "default: \"socks4://u:@@h.example:1080\"\n",
	"two members of one name":  "pools: {p: {proxies: [{name: a, url: \"http://u:@@h.example:1080\"}, {name: a, url: \"http://u:@@i.example:1080\"}]}}\n",
	"under the wrong key":      "default: {password: \"@\"}\n",
	"under no key":             "pasword: \"@\"\n",
	"a list in a list":         "default: [[\"http://u:@@h.example:1080\"]]\n",
	"a line of a list":         "default: \"h.example:1080:u:@\"\n",
	"bars":                     "pools: {p: {proxies: [\"h.example|1080|u|@\"]}}\n",
	"the host first":           "default: \"http://h.example:1080@u:@\"\n",
	"an alias":                 "admin: {token: *@}\n",
	"twice the same key":       "default: \"http://u:@@h.example:1080\"\ndefault: \"http://u:@@h.example:1080\"\n",
	"not YAML":                 "default: \"http://u:@@h.example:1080\n",
	"a tab":                    "default:\n\t\"http://u:@@h.example:1080\"\n",
	"a secret that is missing": "default: \"http://u:${NO_SUCH}@@h.example:1080\"\n",
	"a file that is missing":   "default: \"http://u:${file:/no/such/file}@@h.example:1080\"\n",
	"a user without a name":    "listen: [{address: \"127.0.0.1:0\", auth: {users: [{password: \"@\"}]}}]\n",
	"a user twice":             "listen: [{address: \"127.0.0.1:0\", auth: {users: [{name: a, password: \"@\"}, {name: a, password: \"@\"}]}}]\n",
	"a password of a number":   "listen: [{address: \"127.0.0.1:0\", auth: {users: [{name: a, password: [\"@\"]}]}}]\n",
	"as a number":              "drain_seconds: \"@\"\n",
	"via reject":               "default: {url: \"http://u:@@h.example:1080\", via: reject}\n",
	"a certificate not there":  "default: {url: \"https://u:@@h.example:1080\", tls: {ca_file: /no/such/file}}\n",
}

func TestPasswordsShowInNoFault(t *testing.T) {
	mark := markBefore + "00" + markAfter
	d := start(t, "log: {level: debug}\n")
	good, err := os.ReadFile(d.File)
	if err != nil {
		t.Fatal(err)
	}
	for name, yaml := range broken {
		yaml = withListen(strings.ReplaceAll(yaml, "@@", mark+"@"))
		if !strings.Contains(yaml, mark) {
			yaml = strings.ReplaceAll(yaml, "@", mark)
		}
		t.Run(name, func(t *testing.T) {
			file := writeConfig(t, yaml)
			for _, args := range [][]string{{"check"}, {"check", "--format", "json"}, {"run"}} {
				out, code := run(t, nil, append(args, "-c", file)...)
				noMark(t, args[0], out)
				if args[0] == "check" && code == 0 {
					t.Errorf("is no fault:\n%s\n%s", yaml, out)
				}
			}
			if err := os.WriteFile(d.File, []byte(yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			before := strings.Count(d.Log.String(), "reload refused")
			d.reload <- struct{}{}
			testkit.Eventually(t, testkit.Patience, "the reload", func() bool { return strings.Count(d.Log.String(), "reload refused") > before })
		})
	}
	_ = os.WriteFile(d.File, good, 0o600)
	noMark(t, "the log", d.Log.String())
	for _, variable := range []string{"PROXYD_DEFAULT", "PROXYD_DEFAULT__URL", "PROXYD_EXCHANGES__BINANCE__HTTP", "PROXYD_NOSUCH", "CRYPTOFEED_PROXY_DEFAULT__HTTP"} {
		for _, value := range []string{"ftp://u:" + mark + "@h.example:1", "{\"url\": \"x://u:" + mark + "@h.example:1\"}"} {
			out, _ := run(t, []string{variable + "=" + value}, "check", "-c", d.File)
			noMark(t, variable, out)
		}
	}
}

// A fault that quotes what was written must not quote the password before an @.
func TestFaultsQuoteNoPassword(t *testing.T) {
	t.Parallel()
	mark := markBefore + "00" + markAfter
	for name, yaml := range map[string]string{
		"a member's name":       "pools: {p: {proxies: [{name: \"u:@@h\", url: \"http://u:@@h.example:1080\"}]}}\n",
		"as a key":              "default: {\"http://u:@@h.example:1080\": x}\n",
		"as an address":         "listen: \"u:@@127.0.0.1:0\"\n",
		"as an exchange":        "exchanges: {\"u:@@h.example\": direct}\n",
		"as a CIDR":             "allow_private: [\"u:@@10.0.0.0/8\"]\n",
		"as a host":             "exchanges: {v: {hosts: [\"http://u:@@h.example\"], http: direct}}\n",
		"a password for direct": "default: \"direct://u:@@203.0.113.1\"\n",
		"as the admin address":  "admin: \"u:@@127.0.0.1:0\"\n",
		"half a scheme":         "default: \"socks5:/u:@@h.example:1080\"\n",
		"no scheme":             "default: \"u:@@h.example:1080\"\n",
		"a pool of that name":   "default: {pool: \"http://u:@@h.example:1080\"}\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := writeConfig(t, withListen(strings.ReplaceAll(yaml, "@@", mark+"@")))
			out, _ := run(t, nil, "check", "-c", file)
			noMark(t, "check", out)
		})
	}
	out, _ := run(t, []string{"PROXYD_LISTEN=http://u:" + mark + "@127.0.0.1:1"}, "check")
	noMark(t, "PROXYD_LISTEN", out)
}
