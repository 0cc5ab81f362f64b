package upstream

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
)

// Why an upstream refuses is quoted, from where it says it.
func TestWhyUpstreamRefuses(t *testing.T) {
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
			_, fault := shake(conn, config.SchemeHTTP, Target{Host: "x.example", Port: 443}, login("acct-8842", "hunter2-hunter2"))
			if fault == nil || !strings.HasPrefix(fault.Text, tt.want) {
				t.Errorf("got %+v\nwant %q", fault, tt.want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
