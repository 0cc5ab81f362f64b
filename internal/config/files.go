package config

import (
	"crypto/tls"
	"crypto/x509"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config/internal/raw"
)

// maxCatalogSize bounds the user's rows for the catalogue.
const maxCatalogSize = 4 << 20

// catalog reads the user's rows for the catalogue of exchanges. What comes
// after goes by the embedded one alone when they are at fault.
func (b *builder) catalog(file *string) (string, *catalog.Catalog) {
	if file == nil || *file == "" {
		return "", b.known
	}
	text, err := readAtMost(*file, maxCatalogSize)
	if err != nil {
		b.fault("catalog", "create the file, or correct the path", "%s cannot be read: %s", filePath(*file), rootCause(err))
		return *file, b.known
	}
	c, err := catalog.Overlay(text)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			b.fault("catalog", "write rows as exchange,host,kind,env,sources: see proxyd exchanges", "%s: %s", filePath(*file), strings.TrimSpace(line))
		}
		return *file, b.known
	}
	b.known = c
	return *file, c
}

// DefaultUserAgent is what checks send unless probe.user_agent is set: what most
// feed clients send, so that the firewall of an exchange judges a check as it
// judges them. Some refuse agents that they do not know.
const DefaultUserAgent = "Python/3.12 aiohttp/3.12.15"

// userAgent reads what checks of exchanges send.
func (b *builder) userAgent(p *raw.Asking) string {
	if p == nil || p.UserAgent == nil {
		return DefaultUserAgent
	}
	text := *p.UserAgent
	if text == "" || len(text) > 256 || strings.Contains(text, "://") || strings.Contains(text, "@") || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(text) != text {
		b.fault("probe.user_agent", "write the text of a User-Agent header, such as curl/8.5.0", "is empty, longer than 256 characters, a URL, or not of printable ASCII characters")
		return DefaultUserAgent
	}
	return text
}

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
