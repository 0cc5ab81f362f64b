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
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
)

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
