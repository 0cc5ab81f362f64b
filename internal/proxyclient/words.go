package proxyclient

import (
	"strings"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

// looksLike returns a guess at what speaks in place of a proxy, "" without one.
func looksLike(b []byte) string {
	s := string(b[:min(len(b), 64)])
	has := func(prefix string) bool { return strings.HasPrefix(s, prefix) }
	switch {
	case has("SSH-"):
		return "SSH"
	case has("\x15\x03"), has("\x16\x03"):
		return "TLS"
	case has("HTTP/"):
		return "HTTP"
	case has("CONNECT "):
		return "our own request sent back"
	case has("\x05"):
		return "SOCKS5"
	case has("\x00Z"), has("\x00["), has("\x00\\"), has("\x00]"):
		return "SOCKS4"
	case has("<"):
		return "HTML"
	case has("220"), has("* OK"), has("+OK"):
		return "a mail or FTP server"
	case has("RFB "):
		return "VNC"
	default:
		return ""
	}
}

// garbage returns the error of a far end that does not speak the expected protocol.
func garbage(b []byte, scheme config.Scheme) *failure.Error {
	e := &failure.Error{Class: failure.UpstreamProtocol, Text: "answered with garbage"}
	like := looksLike(b)
	if like != "" {
		e.Text += " that looks like " + like
	}
	switch {
	case like == "TLS" && scheme == config.SchemeHTTP:
		e.Hint = "if it is a TLS proxy, write https:// in its URL"
	case like == "SOCKS5" && !isSOCKS(scheme):
		e.Hint = "if it is a SOCKS proxy, write socks5:// in its URL"
	case like == "HTTP" && isSOCKS(scheme):
		e.Hint = "if it is an HTTP proxy, write http:// in its URL"
	default:
		e.Hint = "check the scheme and the port in its URL"
	}
	return e
}

func isSOCKS(s config.Scheme) bool {
	switch s {
	case config.SchemeSOCKS4, config.SchemeSOCKS4A, config.SchemeSOCKS5, config.SchemeSOCKS5H:
		return true
	default:
		return false
	}
}
