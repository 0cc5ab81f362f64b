package config_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

// Commands look for the daemon where it is: both readers agree with what is
// loaded, however the address is written and whatever a variable adds to it.
func TestPartialReadsMatchLoad(t *testing.T) {
	for name, c := range map[string]struct {
		file    string
		environ []string
	}{
		"nothing written":             {"watch: true\n", nil},
		"text":                        {"admin: 127.0.0.1:9001\nlisten: 127.0.0.1:1\n", nil},
		"mappings":                    {"admin: {address: 127.0.0.1:9001}\nlisten: [{address: 127.0.0.1:1}]\n", nil},
		"no address in the mapping":   {"admin: {pprof: true}\n", nil},
		"text, and a variable beside": {"admin: 127.0.0.1:9001\nlisten: [127.0.0.1:1]\n", []string{"PROXYD_ADMIN__PPROF=true", "PROXYD_LISTEN__0__USE=direct"}},
		"text, and a variable over":   {"admin: 127.0.0.1:9001\nlisten: [127.0.0.1:1]\n", []string{"PROXYD_ADMIN__ADDRESS=127.0.0.1:9002", "PROXYD_LISTEN__0__ADDRESS=127.0.0.1:2"}},
		"several":                     {"listen: [\"localhost:1\", {address: \"127.0.0.1:2\", use: direct, kind: websocket}, {address: \"0.0.0.0:3\", auth: {users: [{name: n, password: \"${T}\"}]}}]\n", []string{"T=geheim"}},
		"a socket":                    {"admin: unix:/run/proxyd.sock\n", nil},
		"off":                         {"admin: \"\"\n", nil},
		"all of it":                   {"admin: {address: \"0.0.0.0:9001\", allow: [10.0.0.0/8], hosts: [h.example], token: \"${T}\", pprof: true}\n", []string{"T=geheim"}},
		"only variables":              {"watch: true\n", []string{"PROXYD_ADMIN=127.0.0.1:9002", `PROXYD_LISTEN=["127.0.0.1:2"]`}},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.file)
			loaded, err := config.Load(path, c.environ)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := config.AdminOf(path, c.environ); err != nil || !reflect.DeepEqual(got, loaded.Admin) {
				t.Errorf("admin: got %+v, %v; loaded %+v", got, err, loaded.Admin)
			}
			got, err := config.ClientListeners(path, c.environ)
			if err != nil || len(got) != len(loaded.Listen) {
				t.Fatalf("listen: got %+v, %v; loaded %+v", got, err, loaded.Listen)
			}
			for i, l := range loaded.Listen {
				want := config.ClientListener{Address: l.Address, Auth: len(l.Users) > 0, Use: l.Use != nil}
				if l.Kind != catalog.KindBoth {
					want.Kind = l.Kind.String()
				}
				if got[i] != want {
					t.Errorf("listen: got %+v, loaded %+v", got[i], want)
				}
			}
		})
	}
}

// The daemon is found, and asked with its token, whatever became of its file.
func TestAdminOfInvalidFile(t *testing.T) {
	const admin = "admin:\n  # for the operators\n  address: 127.0.0.1:9001\n\n  token: ${T}\n"
	for name, c := range map[string]struct {
		file, want string // want: the address, or what the error says
		token      string
	}{
		"another key is invalid":      {admin + "exchanges: {nobody: asia}\nnonsense: 1\n", "127.0.0.1:9001", "geheim"},
		"a secret is missing":         {admin + "default: \"http://u:${NONE}@h.example:1\"\n", "127.0.0.1:9001", "geheim"},
		"no YAML behind it":           {admin + "default: [\nexchanges: {", "127.0.0.1:9001", "geheim"},
		"no YAML before it":           {"default: [\n" + admin, "127.0.0.1:9001", "geheim"},
		"cut off in it":               {"default: direct\nadmin: {address: 127.0.0.1:9", "proxyd.yaml:1:1: did not find expected ',' or '}'", ""},
		"in one line, and no YAML":    {"admin: 127.0.0.1:9001\ndefault: [", "127.0.0.1:9001", ""},
		"two documents":               {admin + "---\nx: 1\n", "127.0.0.1:9001", "geheim"},
		"its token is missing":        {"admin: {address: \"127.0.0.1:9001\", token: \"${NONE}${T}\"}\n", "127.0.0.1:9001", ""},
		"its token is empty":          {"admin: {address: \"127.0.0.1:9001\", token: \"\"}\n", "127.0.0.1:9001", ""},
		"its clients are invalid":     {"admin: {address: \"127.0.0.1:9001\", allow: [all], hosts: x}\n", "127.0.0.1:9001", ""},
		"it is invalid":               {"admin: nowhere\n", "proxyd.yaml:1:8: admin: \"nowhere\" is not an address", ""},
		"it has an unknown key":       {"admin: {addr: 127.0.0.1:9001}\n", "proxyd.yaml:1:9: admin.addr: unknown key", ""},
		"a list":                      {"admin: [127.0.0.1:9001]\n", "proxyd.yaml:1:8: admin: must be text or a mapping, not a list", ""},
		"it is off":                   {"admin: \"\"\nx: [", "", ""},
		"no such key, and no YAML":    {"default: [", "127.0.0.1:8878", ""},
		"empty":                       {"", "127.0.0.1:8878", ""},
		"the word elsewhere, no YAML": {"{admin: 127.0.0.1:9001, default: [", "proxyd.yaml:1:1: did not find expected node content", ""},
		"in another letter case":      {"Admin: 127.0.0.1:9001\ndefault: [", "127.0.0.1:9001", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.file)
			a, err := config.AdminOf(path, []string{"T=geheim", "PROXYD_NONSENSE=1"})
			got := a.Address
			if err != nil {
				got = strings.ReplaceAll(err.Error(), path, "proxyd.yaml")
			}
			if got != c.want && (err == nil || !strings.HasPrefix(got, c.want)) || a.Token.Reveal() != c.token {
				t.Errorf("got %q with token %q, want %q with %q", got, a.Token.Reveal(), c.want, c.token)
			}
		})
	}
	if _, err := config.AdminOf("/nonexistent/proxyd.yaml", nil); err == nil {
		t.Error("a file that is not there says where the daemon is")
	}
	full, err := os.ReadFile("../../configs/proxyd.full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, string(full)+"\nnonsense: [")
	if a, err := config.AdminOf(path, nil); err != nil || a.Address != "127.0.0.1:8878" || a.Default {
		t.Errorf("got %+v, %v", a, err)
	}
	want := []config.ClientListener{{Address: "127.0.0.1:8877"}, {Address: "[::1]:8877"}, {Address: "127.0.0.1:8880", Use: true, Kind: "websocket", Auth: true}}
	if got, err := config.ClientListeners(path, nil); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Clients find the daemon whatever became of its file, but are never sent to
// an address that the file does not say.
func TestClientListenersOfInvalidFile(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{ // want: the addresses, or what the error says
		"another key is invalid":   {"listen: 127.0.0.1:9\nnonsense: 1\nexchanges: {nobody: asia}\n", "127.0.0.1:9"},
		"no YAML behind it":        {"listen:\n- 127.0.0.1:9\n- address: 127.0.0.1:8\n  use: nowhere\ndefault: [\n", "127.0.0.1:9 127.0.0.1:8"},
		"in a cryptofeed block":    {"proxy:\n  default: {http: {url: nonsense}}\nlisten: 127.0.0.1:9\n", "127.0.0.1:9"},
		"its use and password":     {"listen: [{address: 127.0.0.1:9, use: [1], auth: {users: 7}, tls: 7, allow: x}]\n", "127.0.0.1:9"},
		"it is open to all":        {"listen: \"0.0.0.0:9\"\n", "0.0.0.0:9"},
		"no such key":              {"default: [", "127.0.0.1:8877 [::1]:8877"},
		"no address":               {"listen: [nowhere]\n", "listen: must be an address"},
		"one of two has none":      {"listen: [127.0.0.1:9, {use: direct}]\n", "listen: must be an address"},
		"an empty list":            {"listen: []\n", "listen: is an empty list"},
		"one is transparent":       {"listen: [{address: 127.0.0.1:9, transparent: TRUE}, 127.0.0.1:8, {address: 127.0.0.1:7, transparent: false}]\n", "127.0.0.1:8 127.0.0.1:7"},
		"none is for clients":      {"listen: {address: 127.0.0.1:9, transparent: true}\n", "listen: has transparent listeners alone"},
		"no YAML, and it is there": {"{listen: 127.0.0.1:9, default: [", "did not find expected node content"},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := config.ClientListeners(write(t, c.file), []string{"PROXYD_NONSENSE=1"})
			var got []string
			for _, l := range list {
				got = append(got, l.Address)
			}
			if text := strings.Join(got, " "); err == nil && text != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %s, %v; want %s", text, err, c.want)
			}
		})
	}
}

// A transparent listener is an error where no connection can be redirected.
func TestTransparentListenerNeedsLinux(t *testing.T) {
	path := write(t, "listen: [127.0.0.1:8877, {address: 127.0.0.1:8879, transparent: true}]\n")
	for system, want := range map[string]string{
		"linux": "", "windows": "and this is windows", "darwin": "and this is darwin",
	} {
		_, err := config.LoadWith(path, nil, config.Options{System: system})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", system, err)
		}
	}
}

// An upstream at the default admin address is allowed unless the file sets that
// address.
func TestUpstreamAtDefaultAdminAddress(t *testing.T) {
	load(t, "default: http://127.0.0.1:8878\n")
}
