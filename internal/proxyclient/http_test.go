package proxyclient

import (
	"strings"
	"testing"

	"proxyd/internal/config"
)

const askVenue = "CONNECT stream.venue.example:9443 HTTP/1.1\r\nHost: stream.venue.example:9443\r\n\r\n"

// padded returns a success whose head has exactly size bytes.
func padded(size int) string {
	const before, after = "HTTP/1.1 200 OK\r\nX: ", "\r\n\r\n"
	return before + strings.Repeat("x", size-len(before)-len(after)) + after
}

func TestHeadLimit(t *testing.T) {
	tests := []struct {
		name, say, want string
	}{
		{"a head of 16 KiB", padded(16 << 10), ""},
		{"one byte more", padded(16<<10 + 1), "answered CONNECT with a head of more than 16 KiB"},
		{"a megabyte", padded(1 << 20), "answered CONNECT with a head of more than 16 KiB"},
		{"a reason without end", "HTTP/1.1 200 " + strings.Repeat("x", 20<<10), "answered CONNECT with a head of more than 16 KiB"},
		{"lines without end", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 5000), "answered CONNECT with a head of more than 16 KiB"},
		{"each of five interim answers as large", strings.Repeat(strings.Replace(padded(16<<10), "200 OK", "100 OK", 1), 5) + "HTTP/1.1 200 OK\r\n\r\n", ""},
		{"an error's head of 16 KiB", strings.Replace(padded(16<<10), "200 OK", "403 No", 1), "answered 403 No to CONNECT stream.venue.example:9443"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, _ := converse(t, step{askVenue, tt.say})
			counted := &cutting{Conn: conn}
			k, e := shake(counted, config.SchemeHTTP, exchange, noLogin)
			got := ""
			if e != nil {
				got = e.Text
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if len(k.buf) > headLimit || (tt.want != "" && counted.seen > headLimit) {
				t.Errorf("read %d bytes into a buffer of %d", counted.seen, len(k.buf))
			}
		})
	}
}

// What the target sends immediately may be more than the buffer holds; the rest
// stays in the connection.
func TestManyEarlyBytes(t *testing.T) {
	early := strings.Repeat("early bytes. ", 5000)
	conn, _ := converse(t, step{askVenue, "HTTP/1.1 200 OK\r\n\r\n" + early})
	k, e := shake(conn, config.SchemeHTTP, exchange, noLogin)
	if e != nil {
		t.Fatal(e)
	}
	all := k.rest()
	for len(all) < len(early) {
		block := make([]byte, 32<<10)
		n, err := conn.Read(block)
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(all), err)
		}
		all = append(all, block[:n]...)
	}
	if string(all) != early {
		t.Errorf("%d early bytes came, and not as they were sent", len(all))
	}
}

func TestInterimAnswers(t *testing.T) {
	const one, success = "HTTP/1.1 102 Processing\r\nX: y\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"
	tests := []struct {
		name, say, want string
	}{
		{"none", success, ""},
		{"five", strings.Repeat(one, 5) + success, ""},
		{"six", strings.Repeat(one, 6) + success, "sent more than 5 interim answers to CONNECT"},
		{"six and nothing more", strings.Repeat(one, 6), "sent more than 5 interim answers to CONNECT"},
		{"then a refusal", one + "HTTP/1.1 403 Forbidden\r\n\r\n", "answered 403 Forbidden to CONNECT stream.venue.example:9443"},
		{"a switch of protocols", one + "HTTP/1.1 101 Switching Protocols\r\n\r\n" + success, "switched protocols in answer to CONNECT"},
		{"then garbage", one + "\x05\x00", "answered with garbage that looks like SOCKS5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, _ := converse(t, step{askVenue, tt.say})
			_, e := shake(conn, config.SchemeHTTP, exchange, noLogin)
			got := ""
			if e != nil {
				got = e.Text
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
