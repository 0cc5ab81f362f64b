package config

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
)

// certificate faults a pair of files that are no certificate and its key.
func (b *builder) certificate(key, certFile, keyFile string) {
	if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil && !b.secrets.missingOK {
		b.fault(key, "correct the paths, or the files", "no certificate: %s", strings.TrimPrefix(err.Error(), "tls: "))
	}
}

// authorities faults a file without certificates to trust.
func (b *builder) authorities(key, file string) {
	if b.secrets.missingOK {
		return
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		b.fault(key, "create the file, or correct the path", "%s cannot be read: %s", file, rootCause(err))
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		b.fault(key, "name a file with certificates in PEM", "%s holds no certificate", file)
	}
}
