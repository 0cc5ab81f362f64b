package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"proxyd/internal/target"
)

// checkFileMode warns of others who can read or change passwords in the file.
// Passwords from variables and other files are not checked.
func (r *references) checkFileMode() {
	if r.path == "" || runtime.GOOS == "windows" { // the mode says nothing there
		return
	}
	st, err := os.Stat(r.path)
	if err != nil || !st.Mode().IsRegular() {
		return
	}
	perm := st.Mode().Perm()
	const writable, open = 0o002, 0o077
	hint := fmt.Sprintf("chmod 600 %s, or write the password as ${NAME} or ${file:/path}", r.path)
	switch {
	case perm&writable != 0 && len(r.literal) > 0:
		r.errorf(r.literal[0], hint, "holds a password, and every user of this machine may change the file (mode %04o)", perm)
	case perm&writable != 0:
		r.warnings = append(r.warnings, Error{File: r.path, Message: fmt.Sprintf("every user of this machine may change it (mode %04o)", perm), Hint: "chmod 600 " + r.path})
	case perm&open != 0 && len(r.literal) > 0:
		r.warnf(r.literal[0], hint, "holds a password, and others may read the file (mode %04o)", perm)
	}
}

// checkListMode warns of others who can read or change the passwords in a list.
func (r *references) checkListMode(key, path string) {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() || runtime.GOOS == "windows" {
		return
	}
	switch perm := st.Mode().Perm(); {
	case perm&0o002 != 0:
		r.errorf(key, "chmod 600 it", "the list holds passwords, and every user of this machine may change it (mode %04o)", perm)
	case perm&0o077 != 0:
		r.warnf(key, "chmod 600 it", "the list holds passwords, and others may read it (mode %04o)", perm)
	}
}

// warnPastedTimeout warns, once, of outbounds in a pasted block that have no
// timeout, since cryptofeed and proxyd have different defaults.
func (rep *report) warnPastedTimeout(c *Config, without []string) {
	for _, key := range without {
		at := rep.position(key)
		if !at.pasted || at.env != "" || !slices.ContainsFunc(c.Pools, func(p Pool) bool { return p.Inline && p.Name == key }) {
			continue
		}
		rep.warnf(key, "write timeout_seconds: 30 to keep it, or 4 (many clients give up after 5 s)", "has no timeout_seconds: that is 4 s here, and 30 s in cryptofeed; so for every outbound without one")
		return
	}
}

// warnAddressRejects warns of routes that reject addresses: most clients send
// names, and proxyd does not resolve them to compare.
func (rep *report) warnAddressRejects(c *Config) {
	if !resolvesElsewhere(c) {
		return
	}
	for i, route := range c.Routes {
		if route.Outbound.Action != Reject {
			continue
		}
		for j, h := range route.Hosts {
			if h.Kind == target.CIDR {
				rep.warnf(fmt.Sprintf("routes[%d].hosts[%d]", i, j), "refuse its names too",
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

// certificate refuses a pair of files that are not a certificate and its key.
func (r *references) certificate(key, certFile, keyFile string) {
	if r.missingOK {
		return
	}
	cert, err := r.inputs.read(certFile, maxPEMSize)
	if err != nil {
		r.unreadable(key+".cert_file", certFile, err)
		return
	}
	private, err := r.inputs.read(keyFile, maxPEMSize)
	if err != nil {
		r.unreadable(key+".key_file", keyFile, err)
		return
	}
	if _, err = tls.X509KeyPair(cert, private); err != nil {
		r.errorf(key, "correct the paths, or the files", "no certificate: %s", strings.TrimPrefix(rootCause(err), "tls: "))
	}
}

// authorities refuses a file without certificates.
func (r *references) authorities(key, file string) {
	if r.missingOK {
		return
	}
	pem, err := r.inputs.read(file, maxPEMSize)
	if err != nil {
		r.unreadable(key, file, err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		r.errorf(key, "name a file with certificates in PEM", "%s holds no certificate", r.shown(file))
	}
}
