package config

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
)

// certificate faults a pair of files that are no certificate and its key.
func (b *builder) certificate(key, certFile, keyFile string) {
	if b.secrets.missingOK {
		return
	}
	cert, err := readAtMost(certFile, maxPEMSize)
	if err != nil {
		b.fault(key+".cert_file", "create the file, or correct the path", "%s cannot be read: %s", filePath(certFile), rootCause(err))
		return
	}
	private, err := readAtMost(keyFile, maxPEMSize)
	if err != nil {
		b.fault(key+".key_file", "create the file, or correct the path", "%s cannot be read: %s", filePath(keyFile), rootCause(err))
		return
	}
	if _, err = tls.X509KeyPair(cert, private); err != nil {
		b.fault(key, "correct the paths, or the files", "no certificate: %s", strings.TrimPrefix(rootCause(err), "tls: "))
	}
}

// authorities faults a file without certificates to trust.
func (b *builder) authorities(key, file string) {
	if b.secrets.missingOK {
		return
	}
	pem, err := readAtMost(file, maxPEMSize)
	if err != nil {
		b.fault(key, "create the file, or correct the path", "%s cannot be read: %s", filePath(file), rootCause(err))
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		b.fault(key, "name a file with certificates in PEM", "%s holds no certificate", filePath(file))
	}
}
