package upstream

import (
	"strconv"
	"strings"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

// hostPort is "host:port" of a target, brackets around IPv6.
func hostPort(t Target) string { return string(appendHostPort(nil, t)) }

// appendHostPort appends "host:port". Only parts that were normalised at the
// border are used, never text as a client wrote it.
func appendHostPort(b []byte, t Target) []byte {
	switch {
	case t.IP.IsValid() && t.IP.Is6():
		b = append(b, '[')
		b = t.IP.AppendTo(b)
		b = append(b, ']')
	case t.IP.IsValid():
		b = t.IP.AppendTo(b)
	default:
		b = append(b, t.Host...)
	}
	b = append(b, ':')
	return strconv.AppendUint(b, uint64(t.Port), 10)
}

// speakable reports whether a target may be put into a handshake. It always
// may, since the border normalises; this is the last fence before the wire.
func speakable(t Target) bool {
	if t.Port == 0 {
		return false
	}
	if t.IP.IsValid() {
		return true
	}
	if t.Host == "" || len(t.Host) > 253 {
		return false
	}
	for i := 0; i < len(t.Host); i++ {
		switch c := t.Host[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// looksLike guesses what speaks in place of a proxy; "" if it cannot be told.
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

// garbage is the fault of a far end that does not speak the expected protocol.
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
