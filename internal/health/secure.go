package health

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"time"

	"proxyd/internal/failure"
)

// secure speaks TLS with the exchange. The system says which
// certificates are trusted (SSL_CERT_FILE), as it does for clients.
func (p *probe) secure(conn net.Conn) (net.Conn, *Result) {
	start := time.Now()
	secured := tls.Client(conn, &tls.Config{
		ServerName: p.ask.Target.Host, RootCAs: p.ask.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	})
	err := secured.Handshake() //nolint:noctx // the deadline that ctx sets ends it
	if err != nil {
		r := p.tlsFailure(err, time.Since(start))
		return nil, &r
	}
	p.steps.since(StepTLS, start)
	return secured, nil
}

// tlsFailure judges a TLS handshake that failed. A certificate that is not the
// exchange's comes from something in between: clients would not trust it either,
// so the upstream is of no use. Where the certificate is right but for its time,
// the exchange or this machine's clock is to blame.
func (p *probe) tlsFailure(err error, took time.Duration) Result {
	var (
		bad    *tls.CertificateVerificationError
		record tls.RecordHeaderError
		remote *net.OpError
	)
	switch {
	case errors.As(err, &bad) && len(bad.UnverifiedCertificates) > 0:
		return p.untrusted(bad)
	case errors.As(err, &record):
		return Result{
			Verdict: Verdict(failure.UpstreamProtocol), Text: "connected, but what answers there does not speak TLS",
			Hint: "the proxy may answer instead of the exchange (a login page, or a filter)",
		}
	case errors.As(err, &remote) && remote.Op == "remote error":
		return Result{
			Verdict: Verdict(failure.TargetUnreachable), Unsure: true,
			Text: "connected, but TLS was refused there (" + clean(strings.TrimPrefix(remote.Err.Error(), "tls: "), 60) + ")",
		}
	case isTimeout(err), isEnd(err):
		return brokenOff("the TLS handshake", err, took)
	}
	return Result{Verdict: Verdict(failure.UpstreamTLS), Text: "connected, but TLS failed there (" + clean(strings.TrimPrefix(err.Error(), "tls: "), 80) + ")"}
}

// untrusted returns the result for a certificate that is not trusted.
func (p *probe) untrusted(bad *tls.CertificateVerificationError) Result {
	host, leaf := p.ask.Target.Host, bad.UnverifiedCertificates[0]
	var invalid x509.CertificateInvalidError
	if errors.As(bad, &invalid) && invalid.Reason == x509.Expired && p.trustedInItsTime(bad.UnverifiedCertificates) {
		return Result{
			Verdict: Unknown, Hint: "check this machine's clock",
			Text: "the certificate of " + host + " is not valid now (" + leaf.NotBefore.Format(time.DateOnly) + " to " + leaf.NotAfter.Format(time.DateOnly) + ")",
		}
	}
	if p.ask.Roots == nil && noRoots() {
		return Result{
			Verdict: Verdict(failure.Local), Text: "this machine has no root certificates, so that no exchange can be trusted",
			Hint: "install them (ca-certificates), or name a file in SSL_CERT_FILE",
		}
	}
	signer := leaf.Issuer.CommonName
	if signer == "" {
		signer = strings.Join(leaf.Issuer.Organization, ", ")
	}
	what := "the certificate shown for " + host + " is signed by " + quoted(signer) + ", which this machine does not trust"
	var name x509.HostnameError
	if errors.As(bad, &name) {
		what = "the certificate shown for " + host + " is for " + quoted(strings.Join(leaf.DNSNames, ", ")) + ", signed by " + quoted(signer)
	}
	return Result{
		Verdict: Verdict(failure.UpstreamTLS), Text: what,
		Hint: "something in between answers instead of the exchange; if that is meant to be, add its authority to the system's or to SSL_CERT_FILE",
	}
}

// trustedInItsTime reports whether a chain is trusted, but for today's date.
func (p *probe) trustedInItsTime(chain []*x509.Certificate) bool {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName: p.ask.Target.Host, Roots: p.ask.Roots, Intermediates: between,
		CurrentTime: chain[0].NotAfter.Add(-time.Second),
	})
	return err == nil
}

// noRoots reports whether the system has no root certificates at all, as in an
// empty container.
func noRoots() bool {
	pool, err := x509.SystemCertPool()
	return err != nil || pool.Equal(x509.NewCertPool())
}

// quoted returns a name from a certificate, in quotes.
func quoted(s string) string { return `"` + clean(s, 80) + `"` }
