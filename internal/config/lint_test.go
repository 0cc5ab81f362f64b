package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
)

// A file with passwords that others can read is warned of; one that anybody
// can change is refused, since whoever changes it gets the connections.
func TestModeOfAFileWithPasswords(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no mode bits")
	}
	const literal, reference = "default: \"http://u:geheim@h.example:1\"\n", "default: \"http://u:${PW}@h.example:1\"\n"
	for name, c := range map[string]struct {
		text        string
		mode        os.FileMode
		fault, warn string // in the first of each; "" for none
	}{
		"for nobody else":               {literal, 0o600, "", ""},
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
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) || strings.Contains(err.Error(), "geheim") {
					t.Errorf("got %v, want %s", err, c.fault)
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

func TestListenerCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key, other := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem"), filepath.Join(dir, "other.pem")
	pair(t, cert, key)
	pair(t, filepath.Join(dir, "unused.pem"), other)
	text := "listen: {address: \"127.0.0.1:1\", tls: {cert_file: " + cert + ", key_file: KEY}}\n"
	if c := load(t, strings.ReplaceAll(text, "KEY", key)); c.Listen[0].TLSCert != cert || c.Listen[0].TLSKey != key {
		t.Errorf("got %+v", c.Listen)
	}
	got := faults(t, strings.ReplaceAll(text, "KEY", other))
	if want := "proxyd.yaml:1:34: listen.tls: no certificate: private key does not match public key; "; len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("got %q, want %s", got, want)
	}
	path := write(t, strings.ReplaceAll(text, "KEY", filepath.Join(dir, "none.pem")))
	if _, err := config.LoadWith(path, nil, config.Options{NoSecrets: true}); err != nil {
		t.Errorf("without secrets: %v", err)
	}
}

// pair writes a certificate and its key.
func pair(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
