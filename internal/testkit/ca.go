package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// CA is a certificate authority that lives for one test.
type CA struct {
	Pool *x509.CertPool // holds it alone
	File string         // its certificate as a PEM file

	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	issued map[string]*tls.Certificate
}

// NewCA returns a new certificate authority.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca := &CA{Pool: x509.NewCertPool(), issued: map[string]*tls.Certificate{}}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proxyd test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(2 * lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	var err error
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &ca.key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.Pool.AddCert(ca.cert)
	ca.File = filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca.File, "CERTIFICATE", der)
	return ca
}

// lifetime is how long certificates are valid.
const lifetime = 90 * 24 * time.Hour

// certificate issues a certificate for servers and clients that expires at
// notAfter.
func (ca *CA) certificate(notAfter time.Time, names ...string) (tls.Certificate, error) {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: notAfter.Add(-lifetime), NotAfter: notAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// Server returns a TLS configuration with a certificate for these names and
// addresses. Without any it has one for whatever name the client asks for, and
// for the loopback addresses.
func (ca *CA) Server(t testing.TB, names ...string) *tls.Config {
	t.Helper()
	if len(names) == 0 {
		return &tls.Config{GetCertificate: ca.onDemand, NextProtos: []string{"http/1.1"}}
	}
	return ca.ServerUntil(t, time.Now().Add(lifetime/2), names...)
}

// ExpiredServer is Server with a certificate that has expired.
func (ca *CA) ExpiredServer(t testing.TB, names ...string) *tls.Config {
	t.Helper()
	return ca.ServerUntil(t, time.Now().Add(-time.Minute), names...)
}

// ServerUntil is Server with a certificate that expires at notAfter, 90 days after
// it was issued.
func (ca *CA) ServerUntil(t testing.TB, notAfter time.Time, names ...string) *tls.Config {
	t.Helper()
	cert, err := ca.certificate(notAfter, names...)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
}

func (ca *CA) onDemand(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if c := ca.issued[hello.ServerName]; c != nil {
		return c, nil
	}
	names := []string{"127.0.0.1", "::1", "localhost"}
	if hello.ServerName != "" {
		names = append(names, hello.ServerName)
	}
	c, err := ca.certificate(time.Now().Add(lifetime/2), names...)
	if err != nil {
		return nil, err
	}
	ca.issued[hello.ServerName] = &c
	return &c, nil
}

// Files writes a certificate for these names, and its key, as PEM files.
func (ca *CA) Files(t testing.TB, names ...string) (certFile, keyFile string) {
	t.Helper()
	return ca.FilesUntil(t, time.Now().Add(lifetime/2), names...)
}

// FilesUntil is Files with a certificate that expires at notAfter.
func (ca *CA) FilesUntil(t testing.TB, notAfter time.Time, names ...string) (certFile, keyFile string) {
	t.Helper()
	cert, err := ca.certificate(notAfter, names...)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", cert.Certificate[0])
	writePEM(t, keyFile, "PRIVATE KEY", key)
	return certFile, keyFile
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
