package proxyclient

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

// Why an upstream refuses is quoted, from where it says it.
func TestReasonOfRefusal(t *testing.T) {
	t.Parallel()
	body := func(text string) string { return "Content-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text }
	long := strings.Repeat("quota ", 40)
	for name, tt := range map[string]struct{ rest, want string }{
		"nothing":                     {"\r\n", "answered 403 No to CONNECT"},
		"a field of its own":          {"x-brd-err-msg: Zone is over its quota\r\n\r\n", "answered 403 No (Zone is over its quota) to CONNECT"},
		"squid":                       {"X-Squid-Error: ERR_ACCESS_DENIED 0\r\nContent-Type: text/html\r\n" + body("<html>"), "answered 403 No (ERR_ACCESS_DENIED 0) to"},
		"Proxy-Status in words":       {"Proxy-Status: gw; error=http_request_denied; details=\"quota \\\"day\\\"\"\r\n\r\n", `answered 403 No (quota "day") to`},
		"Proxy-Status, error alone":   {"Proxy-Status: gw; error=destination_ip_prohibited; x=1\r\n\r\n", "answered 403 No (destination_ip_prohibited) to"},
		"the better of two":           {"X-Squid-Error: ERR 0\r\nX-Brd-Err-Msg: quota\r\n" + body("text\n"), "answered 403 No (quota) to"},
		"a line of text":              {body("\r\nquota exceeded\r\nmore\r\n"), "answered 403 No (quota exceeded) to"},
		"a line without an end":       {body("quota exceeded"), "answered 403 No (quota exceeded) to"},
		"JSON":                        {"Content-Type: application/problem+json\r\n" + body("{\n  \"error\": \"quota\"\n}"), `answered 403 No ("error": "quota") to`},
		"in chunks":                   {"Transfer-Encoding: chunked\r\n\r\ne\r\nquota exceeded\r\n0\r\n\r\n", "answered 403 No (quota exceeded) to"},
		"without a length":            {"\r\nquota exceeded\n", "answered 403 No (quota exceeded) to"},
		"HTML":                        {body("<html>\nquota\n"), "answered 403 No to"},
		"HTML by its type":            {"Content-Type: text/html; charset=x\r\n" + body("quota\n"), "answered 403 No to"},
		"the reason again":            {body("NO\n"), "answered 403 No to"},
		"a line that never ends":      {"Content-Length: 100\r\n\r\nquota exc", "answered 403 No to"},
		"one word of a text":          {"Content-Type: text/plain\r\n" + body("quota"), "answered 403 No (quota) to"},
		"one word of who knows what":  {body("1F3-abc\n"), "answered 403 No to"},
		"no words":                    {body("----\n42\n"), "answered 403 No to"},
		"too long":                    {body(long + "\n"), "answered 403 No (" + long[:117] + "...) to"},
		"bytes that are not for eyes": {body("\x1b[31mno quota\xff\n"), "answered 403 No (?[31mno quota?) to"},
		"the login":                   {"X-Brd-Err-Msg: no user acct-8842\r\n\r\n", "answered 403 No to"},
		"the password in the body":    {body("bad hunter2-hunter2\n"), "answered 403 No to"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, _ := converse(t, step{"CONNECT ", "HTTP/1.1 403 No\r\n" + tt.rest})
			start := time.Now()
			_, e := shake(conn, config.SchemeHTTP, hostname("x.example", 443), login("acct-8842", "hunter2-hunter2"))
			if e == nil || !strings.HasPrefix(e.Text, tt.want) {
				t.Errorf("got %+v\nwant %q", e, tt.want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

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
			_, e := shake(conn, config.SchemeHTTP, exchange, noLogin)
			if e == nil {
				e = &failure.Error{}
			}
			if e.Class != tt.want || e.Unsure != tt.unsure || !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("got %q, unsure %v, hint %q\nwant %q, unsure %v, hint %q",
					e.Class, e.Unsure, e.Hint, tt.want, tt.unsure, tt.hint)
			}
			if status, _ := strconv.Atoi(tt.answer[:3]); tt.want != "" && tt.want != garbled && e.Status != status {
				t.Errorf("the error says status %d", e.Status)
			}
		})
	}
}

// With credentials sent, another hint helps; at port 443 nothing is said of ports.
func TestStatusHints(t *testing.T) {
	tests := []struct {
		name, answer string
		port         uint16
		cred         *Credentials
		want         string
	}{
		{"wrong login", "407 Who", 443, login("u", "p"), "check the user and the password in its URL"},
		{"wrong login and other schemes", "407 Who\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic", 443, login("u", "p"), "check the user and the password in its URL"},
		{"403 at 443", "403 Forbidden", 443, noLogin, ""},
		{"400 at 443", "400 Bad Request", 443, noLogin, "check that it is a proxy and allows CONNECT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, _ := converse(t, step{"CONNECT ", "HTTP/1.1 " + tt.answer + "\r\n\r\n"})
			_, e := shake(conn, config.SchemeHTTP, hostname("x.example", tt.port), tt.cred)
			if e == nil || e.Hint != tt.want {
				t.Errorf("got %+v, want the hint %q", e, tt.want)
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

// An upstream's words are quoted, but never those that we sent it in secret.
func TestReasonWithCredentialsIsNotQuoted(t *testing.T) {
	const user, password = "acct-8842", "hunter2-hunter2"
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	odd := "pässwörd-with-tail"
	fill := strings.Repeat(".", 50)
	tests := []struct {
		name, reason, password, want string
	}{
		{"something else", "Bad Login", password, "answered 407 Bad Login to"},
		{"the password", "no such password: " + password, password, "answered 407 to"},
		{"the user", "no such user: " + user, password, "answered 407 to"},
		{"both, encoded", "bad Basic " + basic, password, "answered 407 to"},
		{"the password where the quote is cut", fill + password, password, "answered 407 to"},
		{"the encoded pair where the quote is cut", fill + basic, password, "answered 407 to"},
		{"the password behind the cut", fill + fill + password, password, "answered 407 to"},
		{"a password that is not ASCII", "bad " + odd, odd, "answered 407 to"},
		{"as it stands in a URL", "bad http://x:Hunt%2fer2%26%2B9@p", "Hunt/er2&+9", "answered 407 to"},
		{"every byte of it escaped", "bad %68%75%6e%74%65%72%32", "hunter2", "answered 407 to"},
		{"as it stands in a form", "bad Hunt%2Fer2+%269", "Hunt/er2 &9", "answered 407 to"},
		{"as it stands in HTML", "bad Hunt/er2&amp;+9", "Hunt/er2&+9", "answered 407 to"},
		{"as it stands in JSON", `bad "Hunt\/er2\"9"`, `Hunt/er2"9`, "answered 407 to"},
		{"the user in capitals", "no such user: ACCT-8842", password, "answered 407 to"},
		{"a password with an escape of its own", "bad Hunt%41er", "Hunt%41er", "answered 407 to"},
		{"a percent sign that is none of an escape", "busy at 100% now", password, "answered 407 busy at 100% now to"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, _ := converse(t, step{"CONNECT ", "HTTP/1.1 407 " + tt.reason + "\r\nX: " + tt.password + "\r\n\r\n"})
			_, e := shake(conn, config.SchemeHTTP, exchange, login(user, tt.password))
			if e == nil || !strings.HasPrefix(e.Text, tt.want) {
				t.Fatalf("got %+v, want %q", e, tt.want)
			}
		})
	}
}

// A reason is for people: no byte of it may break a header, a log or a terminal.
func TestReasonIsCleaned(t *testing.T) {
	conn, _ := converse(t, step{"CONNECT ", "HTTP/1.1 403  \x1b[31mNo\x00\x7f\xff " + strings.Repeat("w", 100) + "\r\n\r\n"})
	_, e := shake(conn, config.SchemeHTTP, hostname("x.example", 443), noLogin)
	want := "answered 403 ?[31mNo??? " + strings.Repeat("w", 60-len("?[31mNo??? ")) + "... to CONNECT x.example:443"
	if e == nil || e.Text != want {
		t.Errorf("got %+v\nwant %q", e, want)
	}
}
