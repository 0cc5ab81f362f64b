package inbound

import (
	"crypto/tls"
	"strings"
	"testing"

	"proxyd/internal/config"
)

func TestTLSListener(t *testing.T) {
	cert, key, pool := certificate(t)
	f := startFront(t, local, func(l *config.Listener) { l.TLSCert, l.TLSKey = cert, key })
	target := echo(t)
	secure := func() *tls.Conn {
		conn := tls.Client(f.dial(), &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", NextProtos: []string{"h2", "http/1.1"}})
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
			t.Errorf("negotiated %q", p)
		}
		return conn
	}
	for name, text := range map[string]string{
		"connect": connectTo(target) + "EARLY", "socks4": socks4To(t, target) + "EARLY",
	} {
		t.Run(name, func(t *testing.T) {
			conn := secure()
			write(t, conn, text)
			reply := established
			if name == "socks4" {
				reply = string(socks4Granted)
			}
			if got := readN(t, conn, len(reply)+5); got != reply+"EARLY" {
				t.Errorf("got %q", got)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Error(err)
			}
			if rest := readAll(t, conn); rest != "" {
				t.Errorf("behind it: %q", rest)
			}
		})
	}
	t.Run("refusal", func(t *testing.T) {
		conn := secure()
		write(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, body := answerOf(t, readAll(t, conn))
		checkRefusal(t, resp, body, "bad_request")
	})
	t.Run("in clear", func(t *testing.T) {
		if got := f.say(connectTo(target)); !strings.Contains(got, "400 proxyd: bad_request: this port speaks TLS") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		conn := tls.Client(f.dial(), &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		if err := conn.Handshake(); err == nil {
			t.Error("accepted")
		}
	})
}
