package upstream

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

// What an HTTP upstream's answer to CONNECT means, and who is to blame.
func TestStatusClass(t *testing.T) {
	const denied, authFailed, garbled = failure.UpstreamDenied, failure.UpstreamAuth, failure.UpstreamProtocol
	tests := []struct {
		answer string // behind "HTTP/1.1 "
		want   failure.Class
		unsure bool
		hint   string // a part of it
	}{
		{"200 OK", "", false, ""},
		{"201 Created", "", false, ""},
		{"204 No Content", "", false, ""},
		{"299 Strange", "", false, ""},
		{"301 Moved\r\nLocation: http://login.example/", garbled, false, "a redirect is no proxy's answer"},
		{"307 Portal", garbled, false, "a redirect is no proxy's answer"},
		{"400 Bad Request", denied, false, "let it allow 9443"},
		{"401 Unauthorized", authFailed, false, "put the user and the password into its URL"},
		{"402 Payment Required", denied, false, ""},
		{"403 Forbidden", denied, false, "acl SSL_ports port 9443"},
		{"404 Not Found", denied, false, "check that it is a proxy and allows CONNECT"},
		{"405 Method Not Allowed", denied, false, "let it allow 9443"},
		{"407 Who", authFailed, false, "put the user and the password into its URL"},
		{"407 Who\r\nProxy-Authenticate: Basic realm=\"x\"", authFailed, false, "put the user and the password into its URL"},
		{"407 Who\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM", authFailed, false, "it wants Negotiate or NTLM, which proxyd does not speak"},
		{"407 Who\r\nproxy-authenticate: NTLM, Basic realm=\"x\"", authFailed, false, "put the user"},
		{"407 Who\r\nProxy-Authenticate: Digest realm=\"x\", nonce=\"Basic\", qop=auth", authFailed, false, "it wants Digest"},
		{"407 Who\r\nProxy-Authenticate: Bearer", authFailed, false, "it wants Bearer"},
		{"429 Too Many Requests", denied, false, ""},
		{"451 Unavailable For Legal Reasons", denied, false, ""},
		{"500 Oops", failure.TargetUnreachable, true, ""},
		{"501 Not Implemented", denied, false, "check that it is a proxy and allows CONNECT"},
		{"502 Bad Gateway", failure.TargetUnreachable, true, ""},
		{"503 Service Unavailable", failure.TargetUnreachable, true, ""},
		{"503 Service Unavailable\r\nRetry-After: 7", denied, false, ""},
		{"504 Gateway Timeout", failure.TargetUnreachable, true, ""},
		{"504 Gateway Timeout\r\nRetry-After: 7", failure.TargetUnreachable, true, ""},
		{"599 Odd", denied, false, ""},
		{"099 Odd", garbled, false, "check that it is a proxy"},
		{"000 Odd", garbled, false, "check that it is a proxy"},
		{"600 Odd", garbled, false, "check that it is a proxy"},
		{"2000 OK", garbled, false, ""},
		{"20 OK", garbled, false, ""},
		{"200 OK\r\nno colon", garbled, false, "check that it is a proxy"},
		{"200 OK\r\na b: c", garbled, false, "check that it is a proxy"},
		{"200 OK\r\n: nothing", garbled, false, "check that it is a proxy"},
		{"200 OK\r\nX: a\x00b", garbled, false, ""},
		{"200 OK\r\rX: b", garbled, false, ""},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.answer, "\r\n", "; "), func(t *testing.T) {
			conn, _ := converse(t, step{askVenue, "HTTP/1.1 " + tt.answer + "\r\n\r\n"})
			_, fault := shake(conn, config.SchemeHTTP, venue, nobody)
			if fault == nil {
				fault = &failure.Error{}
			}
			if fault.Class != tt.want || fault.Unsure != tt.unsure || !strings.Contains(fault.Hint, tt.hint) {
				t.Errorf("got %q, unsure %v, hint %q\nwant %q, unsure %v, hint %q",
					fault.Class, fault.Unsure, fault.Hint, tt.want, tt.unsure, tt.hint)
			}
			if status, _ := strconv.Atoi(tt.answer[:3]); tt.want != "" && tt.want != garbled && fault.Status != status {
				t.Errorf("the error says status %d", fault.Status)
			}
		})
	}
}

// With credentials sent, another hint helps; at port 443 nothing is said of ports.
func TestStatusHints(t *testing.T) {
	tests := []struct {
		name, answer string
		port         uint16
		cred         *credentials
		want         string
	}{
		{"wrong login", "407 Who", 443, login("u", "p"), "check the user and the password in its URL"},
		{"wrong login and other schemes", "407 Who\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic", 443, login("u", "p"), "check the user and the password in its URL"},
		{"403 at 443", "403 Forbidden", 443, nobody, ""},
		{"400 at 443", "400 Bad Request", 443, nobody, "check that it is a proxy and allows CONNECT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, _ := converse(t, step{"CONNECT ", "HTTP/1.1 " + tt.answer + "\r\n\r\n"})
			_, fault := shake(conn, config.SchemeHTTP, Target{Host: "x.example", Port: tt.port}, tt.cred)
			if fault == nil || fault.Hint != tt.want {
				t.Errorf("got %+v, want the hint %q", fault, tt.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		name, field string
		want        time.Duration
		ok          bool
	}{
		{"seconds", "120", 2 * time.Minute, true},
		{"at once", "0", 0, true},
		{"at most a day", "4000000", 24 * time.Hour, true},
		{"a date", "Fri, 02 Jan 2026 03:05:05 GMT", time.Minute, true},
		{"a date that is over", "Fri, 02 Jan 2026 03:03:05 GMT", 0, true},
		{"a far date", "Fri, 02 Jan 2076 03:03:05 GMT", 24 * time.Hour, true},
		{"less than nothing", "-1", 0, false},
		{"a fraction", "1.5", 0, false},
		{"more than any number", "99999999999999999999", 0, false},
		{"words", "soon", 0, false},
		{"nothing", "", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseRetryAfter(tt.field, now)
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %v, %v; want %v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}
