package proxyclient

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/config"
	"proxyd/internal/testkit"
)

// Files that cannot be used are errors that name the key.
func TestTLSFiles(t *testing.T) {
	ca := testkit.NewCA(t)
	cert, key := ca.Files(t, "x")
	_, otherKey := ca.Files(t, "x")
	noise := filepath.Join(t.TempDir(), "noise.pem")
	if err := os.WriteFile(noise, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		tls  config.TLS
		want string
	}{
		{"no such ca_file", config.TLS{CAFile: "/nonexistent/ca.pem"}, "tls.ca_file: open /nonexistent/ca.pem"},
		{"a ca_file without a certificate", config.TLS{CAFile: noise}, "tls.ca_file: " + noise + " holds no PEM certificate"},
		{"a key of another certificate", config.TLS{CertFile: cert, KeyFile: otherKey}, "tls.cert_file and tls.key_file: "},
		{"a key file without a key", config.TLS{CertFile: cert, KeyFile: noise}, "tls.cert_file and tls.key_file: "},
		{"a certificate alone", config.TLS{CertFile: cert}, "tls.cert_file and tls.key_file: "},
		{"both", config.TLS{CertFile: cert, KeyFile: key}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newTLSConfig(config.Proxy{Name: "px", TLS: tt.tls})
			if (err != nil) != (tt.want != "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCertNames(t *testing.T) {
	for want, c := range map[string]*x509.Certificate{
		"":                             nil,
		" (it names none)":             {},
		" (it is for a\x3f?b.example)": {DNSNames: []string{"a\r\nb.example"}},
		" (it is for 192.0.2.1)":       {IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}},
	} {
		if got := certNames(c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
