package proxyclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"time"
)

// Validity is the time in which a certificate is valid. The zero Validity is of no
// certificate.
type Validity struct {
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
}

// renewBefore is how long before its end a certificate should have been renewed.
const renewBefore = 14 * 24 * time.Hour

// WarnAt returns when an operator should know that the certificate has not been
// renewed: 14 days before its end or, for one that lives only for weeks, when two
// thirds of its life are over.
func (v Validity) WarnAt() time.Time {
	return v.NotAfter.Add(-min(renewBefore, max(v.NotAfter.Sub(v.NotBefore), 0)/3))
}

// ExpiresSoon reports whether WarnAt has come.
func (v Validity) ExpiresSoon(now time.Time) bool {
	return v != Validity{} && !now.Before(v.WarnAt())
}

// ValidityOf returns when c is valid; the zero Validity for nil.
func ValidityOf(c *x509.Certificate) Validity {
	if c == nil {
		return Validity{}
	}
	return Validity{c.NotBefore, c.NotAfter}
}

// Certificate keeps the validity of a proxy's certificate, as its last handshake
// showed it. Its methods are safe for concurrent use.
type Certificate struct{ last atomic.Pointer[Validity] }

// Validity returns it; zero before the first handshake.
func (c *Certificate) Validity() Validity {
	if v := c.last.Load(); v != nil {
		return *v
	}
	return Validity{}
}

// Set replaces it.
func (c *Certificate) Set(v Validity) {
	if v != c.Validity() {
		c.last.Store(&v)
	}
}

// observe keeps the validity of the leaf that a handshake has shown, even if it
// was rejected because it is over.
func (c *Certificate) observe(conn *tls.Conn, err error) {
	if err == nil {
		if leaf := conn.ConnectionState().PeerCertificates; len(leaf) > 0 {
			c.Set(ValidityOf(leaf[0]))
		}
		return
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	rejected, _ := errors.AsType[*tls.CertificateVerificationError](err)
	if ok && invalid.Reason == x509.Expired && rejected != nil && len(rejected.UnverifiedCertificates) > 0 {
		c.Set(ValidityOf(rejected.UnverifiedCertificates[0]))
	}
}

// fresh returns the settings of the next handshake. A session that is resumed shows the
// certificate from its first handshake: where that expires soon, none is resumed, so
// that a renewed one is seen at once.
func (c *Client) fresh() *tls.Config {
	if !c.Certificate.Validity().ExpiresSoon(time.Now()) {
		return c.TLS
	}
	full := c.TLS.Clone()
	full.ClientSessionCache = nil
	return full
}
