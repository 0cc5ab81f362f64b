package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config/internal/raw"
	"proxyd/internal/target"
)

// noteLiteral notes a password that stands in the file itself.
func (b *builder) noteLiteral(key string) {
	if b.position(key).env == "" {
		b.literal = append(b.literal, key)
	}
}

// checkFileMode says who else can get at the passwords in the file. Those that come
// from variables and other files are not its concern.
func (b *builder) checkFileMode() {
	if b.path == "" || runtime.GOOS == "windows" { // the mode says nothing there
		return
	}
	st, err := os.Stat(b.path)
	if err != nil || !st.Mode().IsRegular() {
		return
	}
	perm := st.Mode().Perm()
	const writable, open = 0o002, 0o077
	hint := fmt.Sprintf("chmod 600 %s, or write the password as ${NAME} or ${file:/path}", b.path)
	switch {
	case perm&writable != 0 && len(b.literal) > 0:
		b.errorf(b.literal[0], hint, "holds a password, and every user of this machine may change the file (mode %04o)", perm)
	case perm&writable != 0:
		b.warnings = append(b.warnings, Error{File: b.path, Message: fmt.Sprintf("every user of this machine may change it (mode %04o)", perm), Hint: "chmod 600 " + b.path})
	case perm&open != 0 && len(b.literal) > 0:
		b.warnf(b.literal[0], hint, "holds a password, and others may read the file (mode %04o)", perm)
	}
}

// warnPastedTimeout warns, once, of outbounds of a pasted block that say nothing of
// time: cryptofeed and proxyd mean different ones.
func (b *builder) warnPastedTimeout(c *Config) {
	for _, key := range b.withoutTimeout {
		at := b.position(key)
		if !at.pasted || at.env != "" || !slices.ContainsFunc(c.Pools, func(p Pool) bool { return p.Inline && p.Name == key }) {
			continue
		}
		b.warnf(key, "write timeout_seconds: 30 to keep it, or 4 (many clients give up after 5 s)", "has no timeout_seconds: that is 4 s here, and 30 s in cryptofeed; so for every outbound without one")
		return
	}
}

// warnAddressRejects warns of routes that refuse addresses: most clients ask by name,
// and what a name leads to is not looked at.
func (b *builder) warnAddressRejects(c *Config) {
	if !resolvesElsewhere(c) {
		return
	}
	for i, r := range c.Routes {
		if r.Outbound.Action != Reject {
			continue
		}
		for j, h := range r.Hosts {
			if h.Kind == target.CIDR {
				b.warnf(fmt.Sprintf("routes[%d].hosts[%d]", i, j), "refuse its names too",
					"%s refuses clients that ask for an address; a name that leads there is resolved by the upstream and passes", h)
				break
			}
		}
	}
}

// resolvesElsewhere reports whether some upstream is given names.
func resolvesElsewhere(c *Config) bool {
	for _, p := range c.Pools {
		for _, m := range p.Proxies {
			if m.URL.Scheme != SchemeDirect && m.URL.Scheme != SchemeSOCKS4 {
				return true
			}
		}
	}
	return false
}

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
		b.errorf("catalog", "create the file, or correct the path", "%s cannot be read: %s", filePath(*file), rootCause(err))
		return *file, b.known
	}
	c, err := catalog.Overlay(text)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			b.errorf("catalog", "write rows as exchange,host,kind,env,sources: see proxyd exchanges", "%s: %s", filePath(*file), strings.TrimSpace(line))
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
		b.errorf("probe.user_agent", "write the text of a User-Agent header, such as curl/8.5.0", "is empty, longer than 256 characters, a URL, or not of printable ASCII characters")
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
		b.errorf(key+".cert_file", "create the file, or correct the path", "%s cannot be read: %s", filePath(certFile), rootCause(err))
		return
	}
	private, err := readAtMost(keyFile, maxPEMSize)
	if err != nil {
		b.errorf(key+".key_file", "create the file, or correct the path", "%s cannot be read: %s", filePath(keyFile), rootCause(err))
		return
	}
	if _, err = tls.X509KeyPair(cert, private); err != nil {
		b.errorf(key, "correct the paths, or the files", "no certificate: %s", strings.TrimPrefix(rootCause(err), "tls: "))
	}
}

// authorities faults a file without certificates to trust.
func (b *builder) authorities(key, file string) {
	if b.secrets.missingOK {
		return
	}
	pem, err := readAtMost(file, maxPEMSize)
	if err != nil {
		b.errorf(key, "create the file, or correct the path", "%s cannot be read: %s", filePath(file), rootCause(err))
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		b.errorf(key, "name a file with certificates in PEM", "%s holds no certificate", filePath(file))
	}
}
