package upstream

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"proxyd/internal/config"
	"proxyd/internal/testkit"
)

// An upstream's words are quoted, but never those that we sent it in secret.
func TestReasonThatRepeatsALogin(t *testing.T) {
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
			_, fault := shake(conn, config.SchemeHTTP, venue, login(user, tt.password))
			if fault == nil || !strings.HasPrefix(fault.Text, tt.want) {
				t.Fatalf("got %+v, want %q", fault, tt.want)
			}
		})
	}
}

// A reason is for people: no byte of it may break a header, a log or a terminal.
func TestReasonIsCleaned(t *testing.T) {
	conn, _ := converse(t, step{"CONNECT ", "HTTP/1.1 403  \x1b[31mNo\x00\x7f\xff " + strings.Repeat("w", 100) + "\r\n\r\n"})
	_, fault := shake(conn, config.SchemeHTTP, Target{Host: "x.example", Port: 443}, nobody)
	want := "answered 403 ?[31mNo??? " + strings.Repeat("w", 60-len("?[31mNo??? ")) + "... to CONNECT x.example:443"
	if fault == nil || fault.Text != want {
		t.Errorf("got %+v\nwant %q", fault, want)
	}
}

// Whatever goes wrong with an upstream, no form of an error holds its login.
func TestErrorsHoldNoLogin(t *testing.T) {
	const user, password = "acct-8842", "hunter2-hunter2"
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	echo := func(text string) *testkit.Fault { return testkit.On(testkit.AtGreeting, testkit.Say(text)) }
	faults := map[string]*testkit.Fault{
		"rejects it":          nil,
		"closes":              testkit.On(testkit.AtAccept, testkit.Close),
		"closes at the login": testkit.On(testkit.AtGreeting, testkit.Close),
		"repeats it":          echo("HTTP/1.1 403 " + user + ":" + password + "\r\n" + basic + ": " + password + "\r\n\r\n"),
		"repeats it raw":      echo("\x05" + password),
		"repeats the request": echo("CONNECT x HTTP/1.1\r\nProxy-Authorization: Basic " + basic + "\r\n\r\n"),
	}
	for _, scheme := range []string{"http", "socks4a", "socks5"} {
		for name, f := range faults {
			t.Run(scheme+" "+name, func(t *testing.T) {
				p := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: scheme, User: "another", Password: "x", Fault: f})
				pair := user + ":" + password
				if scheme == "socks4a" { // has no passwords
					pair = user
				}
				s := load(t, fmt.Sprintf("default: %s://%s@%s\n", scheme, pair, p.Addr), nil)
				_, err := only(t, s).Dial(budget(t, testkit.Patience), venue)
				if err == nil {
					t.Fatal("a way")
				}
				all := fmt.Sprintf("%v %+v %#v %s", err, err, err, only(t, s).Members()[0].URL())
				for _, secret := range []string{password, user, basic} {
					if strings.Contains(all, secret) {
						t.Errorf("%q is in %s", secret, all)
					}
				}
			})
		}
	}
}
