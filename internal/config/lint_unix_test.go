//go:build unix

package config_test

import (
	"os"
	"strings"
	"testing"

	"proxyd/internal/config"
)

// A file with passwords that others can read is warned of; one that any user
// can change is refused, since whoever changes it gets the connections.
func TestFileModeWithPasswords(t *testing.T) {
	const literal, reference = "default: \"http://u:geheim@h.example:1\"\n", "default: \"http://u:${PW}@h.example:1\"\n"
	for name, c := range map[string]struct {
		text      string
		mode      os.FileMode
		err, warn string // in the first of each; "" for none
	}{
		"for no other user":             {literal, 0o600, "", ""},
		"for the group":                 {literal, 0o640, "", "proxyd.yaml:1:10: default: holds a password, and others may read the file (mode 0640); chmod 600 "},
		"for all":                       {literal, 0o644, "", "holds a password, and others may read the file (mode 0644)"},
		"for all to write":              {literal, 0o666, "proxyd.yaml:1:10: default: holds a password, and every user of this machine may change the file (mode 0666); chmod 600 ", ""},
		"for all, a reference":          {reference, 0o644, "", ""},
		"for all to write, a reference": {reference, 0o666, "", "every user of this machine may change it (mode 0666); chmod 600 "},
		"a whole URL by reference":      {"default: \"${WHOLE}\"\n", 0o644, "", ""},
		"only a user name":              {"default: \"http://u@h.example:1\"\n", 0o644, "", ""},
		"a client's password":           {"listen: {address: \"127.0.0.1:1\", auth: {users: [{name: a, password: geheim}]}}\n", 0o644, "", "listen.auth.users[0].password: holds a password"},
		"the admin token":               {"admin: {token: geheim}\n", 0o644, "", "admin.token: holds a password"},
		"the password from a variable":  {"log: {level: info}\n", 0o644, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.text)
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			loaded, err := config.Load(path, []string{"PW=geheim", "WHOLE=http://u:geheim@h.example:1", "PROXYD_EXCHANGES__OKX=http://u:geheim@h.example:2"})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "geheim") {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var modes []string
			for _, w := range loaded.Warnings {
				if strings.Contains(w.String(), "mode") {
					modes = append(modes, w.String())
				}
			}
			if got := strings.Join(modes, "\n"); (c.warn == "") != (got == "") || !strings.Contains(got, c.warn) || strings.Contains(got, "geheim") {
				t.Errorf("got warnings %q, want %q", got, c.warn)
			}
		})
	}
}
