package proxyclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

// Error types of Proxy-Status (RFC 9209 section 2.3) more precise than the class's.
const (
	proxyCertificate = "tls_certificate_error"
	proxyAlert       = "tls_alert_received"
)

// newTLSConfig reads the files that p names and builds the settings of its
// connections: verified against the upstream's own name, TLS 1.2 or newer, and
// HTTP/1.1 only, since a CONNECT by HTTP/2 is another protocol.
func newTLSConfig(p config.Proxy) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		ServerName:         p.TLS.ServerName,
		InsecureSkipVerify: p.TLS.Insecure, //nolint:gosec // written in the configuration, and warned about there
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	if c.ServerName == "" {
		c.ServerName = p.URL.Host.Name
	}
	if p.TLS.CAFile != "" {
		pem, err := os.ReadFile(p.TLS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no PEM certificate", p.TLS.CAFile)
		}
	}
	if p.TLS.CertFile != "" || p.TLS.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(p.TLS.CertFile, p.TLS.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file and tls.key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// startTLS starts TLS on conn if the proxy speaks it, else returns conn itself.
// The caller makes conn fail when the time ends.
func (c *Client) startTLS(conn net.Conn) (net.Conn, *failure.Error) {
	if c.TLS == nil {
		return conn, nil
	}
	start := time.Now()
	secured := tls.Client(conn, c.fresh())
	err := secured.Handshake() //nolint:noctx // interruptOn ends it, without the goroutine that HandshakeContext takes
	if verified := !c.TLS.InsecureSkipVerify; verified {
		c.Certificate.observe(secured, err)
	}
	if err == nil {
		return secured, nil
	}
	if dialer.IsTimeout(err) {
		return nil, &failure.Error{
			Class: failure.UpstreamTimeout, Err: err,
			Text: "accepted TCP, then silent at the TLS handshake for " + printable.Seconds(time.Since(start)), Hint: mayBeOther,
		}
	}
	return nil, tlsError(err)
}

// tlsError returns the error of a handshake that failed.
func tlsError(err error) *failure.Error {
	e := &failure.Error{Class: failure.UpstreamTLS, Err: err}
	var (
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		name      x509.HostnameError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &authority):
		e.ProxyError = proxyCertificate
		e.Text = "has a certificate of an authority that this machine does not trust"
		e.Hint = "give the authority's certificate as tls.ca_file"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.ProxyError = proxyCertificate
		e.Text = "has a certificate that is not valid now" + validity(invalid.Cert)
		e.Hint = "renew it there, and check this machine's clock"
	case errors.As(err, &invalid):
		e.ProxyError = proxyCertificate
		e.Text = "has an invalid certificate"
	case errors.As(err, &name):
		e.ProxyError = proxyCertificate
		e.Text = "has a certificate for another name than " + printable.Clean(name.Host, 100) + certNames(name.Certificate)
		e.Hint = "if that is right, set tls.server_name"
	case errors.As(err, &record):
		e.Text = "does not speak TLS"
		if like := looksLike(record.RecordHeader[:]); like != "" {
			e.Text += ", but what looks like " + like
		}
		e.Hint = "if it is a plain proxy, write http:// in its URL"
	case alertOf(err) != nil:
		e.ProxyError = proxyAlert
		e.Text = "refused the TLS handshake (" + printable.Clean(strings.TrimPrefix(alertOf(err).Error(), "tls: "), 60) + ")"
		e.Hint = "it may want a client certificate (tls.cert_file) or other versions"
	case errors.Is(err, io.EOF):
		e.Text = "closed the connection in the TLS handshake"
	case dialer.IsReset(err):
		e.Text = "reset the connection in the TLS handshake"
	default:
		e.Text = "failed the TLS handshake (" + printable.Clean(strings.TrimPrefix(err.Error(), "tls: "), 80) + ")"
	}
	return e
}

// alertOf returns the alert with which the far end ended TLS, nil if there was
// none. tls.AlertError is for QUIC only: over TCP it is in such a net.OpError.
func alertOf(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return op.Err
	}
	return nil
}

// validity returns the time in which a certificate is valid, in brackets.
func validity(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	const day = "2006-01-02"
	return " (" + c.NotBefore.Format(day) + " to " + c.NotAfter.Format(day) + ")"
}

// certNames returns the names that a certificate is for, in brackets.
func certNames(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names[:len(names):len(names)], ip.String())
	}
	if len(names) == 0 {
		return " (it names none)"
	}
	more := ""
	if len(names) > 3 {
		names, more = names[:3], ", ..."
	}
	return " (it is for " + printable.Clean(strings.Join(names, ", "), 120) + more + ")"
}
