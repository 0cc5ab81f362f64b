package inbound

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// certEvery is how often a listener's certificate is looked at for a newer one.
const certEvery = 10 * time.Second

// certs is a listener's certificate. A renewed file is taken up by itself; one
// that cannot be read leaves the last good certificate in force.
type certs struct {
	certFile, keyFile string

	mu     sync.Mutex
	last   *tls.Certificate
	stamp  [2]time.Time // of the two files, when last was read
	looked time.Time
}

func newCerts(certFile, keyFile string) *certs { return &certs{certFile: certFile, keyFile: keyFile} }

// get returns the certificate, for tls.Config.
func (c *certs) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.last != nil && now.Sub(c.looked) < certEvery {
		return c.last, nil
	}
	c.looked = now
	var stamp [2]time.Time
	for i, f := range []string{c.certFile, c.keyFile} {
		if st, err := os.Stat(f); err == nil {
			stamp[i] = st.ModTime()
		}
	}
	if c.last != nil && stamp == c.stamp {
		return c.last, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		if c.last != nil {
			return c.last, nil
		}
		return nil, fmt.Errorf("the listener's certificate: %w", err)
	}
	c.last, c.stamp = &pair, stamp
	return c.last, nil
}

// Certificate is the certificate that a listener shows.
type Certificate struct {
	Listener string // its address in the configuration
	File     string
	Validity upstream.Validity
}

// Certificates returns those of the listeners that speak TLS, by address. It takes up
// renewed files as a connection does.
func (s *Server) Certificates() (list []Certificate) {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.serves))
	s.mu.Unlock()
	for _, d := range all {
		settings := d.settings()
		if settings.TLSCert == "" {
			continue
		}
		if c, err := d.certsOf(&settings).get(nil); err == nil {
			list = append(list, Certificate{settings.Address, settings.TLSCert, upstream.ValidityOf(c.Leaf)})
		}
	}
	slices.SortFunc(list, func(a, b Certificate) int { return strings.Compare(a.Listener, b.Listener) })
	return list
}

// startTLS terminates TLS on the connection, inside the handshake's deadline.
// Nothing is accepted in clear. It returns false if the handshake failed; the
// connection is closed then.
func (c *client) startTLS() bool {
	t := tls.Server(c.conn, &tls.Config{
		GetCertificate: c.listener.certsOf(&c.settings).get,
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
	})
	c.conn.SetWriteDeadline(c.deadline) // a handshake writes too
	err := t.HandshakeContext(c.s.ctx)
	var clear tls.RecordHeaderError
	switch {
	case err == nil:
		c.conn.SetWriteDeadline(time.Time{})
		c.conn, c.in.conn = t, t
		return true
	case errors.As(err, &clear) && clear.Conn != nil && isLetter(clear.RecordHeader[0]):
		c.refuseHTTP(&tunnel.Request{Protocol: "http"}, tlsPort)
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		c.close() // the client left without sending anything, as port probes do, or was evicted
	default:
		c.record(&tunnel.Request{Protocol: "tls"}, bad(cleanLine("the TLS handshake with the client failed: %v", err)))
		c.linger()
	}
	return false
}
