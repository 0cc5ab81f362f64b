package inbound

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

const (
	socksOK      = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	greetNone    = "\x05\x01\x00"
	greetBoth    = "\x05\x02\x00\x02"
	greetPass    = "\x05\x01\x02"
	nameTo443    = "\x05\x01\x00\x03\x09a.example\x01\xbb"
	noMethod     = "\x05\xff"
	methodNone   = "\x05\x00"
	methodPass   = "\x05\x02"
	passAccepted = "\x01\x00"
)

func userPass(user, password string) string {
	return "\x01" + string([]byte{byte(len(user))}) + user + string([]byte{byte(len(password))}) + password
}

func socksFailure(code byte) string { return "\x05" + string([]byte{code}) + socksOK[2:] }

// exchange is what a client says and what it must get for it.
type socksStep struct{ say, want string }

func TestSOCKS5OfRealClients(t *testing.T) {
	target := echo(t)
	to := socks5To(t, target)
	tests := []struct {
		name  string
		auth  bool
		steps []socksStep
		label string
	}{
		{"curl", false, []socksStep{{"\x05\x02\x00\x01", methodNone}, {to, socksOK}}, ""},
		{"curl user", false, []socksStep{{"\x05\x03\x00\x01\x02", methodPass}, {userPass("okx.lane2", ""), passAccepted}, {to, socksOK}}, "okx.lane2"},
		{"go with credentials", false, []socksStep{{greetBoth, methodPass}, {userPass("okx.l2", "pw"), passAccepted}, {to, socksOK}}, "okx.l2"},
		{"SOCK-04 httpx", false, []socksStep{{greetPass, methodPass}, {userPass("okx.l2", "pw"), passAccepted}, {to, socksOK}}, "okx.l2"},
		{"java", false, []socksStep{{greetBoth, methodPass}, {userPass("root", ""), passAccepted}, {to, socksOK}}, "root"},
		{"SOCK-05", true, []socksStep{{greetBoth, methodPass}, {userPass("alice+websocket", "s3cr@t"), passAccepted}, {to, socksOK}}, "alice"},
		{"SOCK-10 RSV", false, []socksStep{{greetNone, methodNone}, {to[:2] + "\x01" + to[3:], socksOK}}, ""},
		{"SOCK-01 all at once", false, []socksStep{{greetNone + to + "EARLY", methodNone + socksOK + "EARLY"}}, ""},
		{"254 methods", false, []socksStep{{"\x05\xfe" + strings.Repeat("\x09", 253) + "\x00", methodNone}, {to, socksOK}}, ""},
	}
	for _, tt := range tests {
		for _, split := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s split=%v", tt.name, split), func(t *testing.T) {
				f := startFront(t, local, nil)
				if tt.auth {
					f = startFront(t, local, withUsers)
				}
				conn := f.dial()
				for _, s := range tt.steps {
					if split {
						for i := range s.say {
							write(t, conn, s.say[i:i+1])
						}
					} else {
						write(t, conn, s.say)
					}
					if got := readN(t, conn, len(s.want)); got != s.want {
						t.Fatalf("%q: got %q, want %q", s.say, got, s.want)
					}
				}
				write(t, conn, "ping")
				if got := readN(t, conn, 4); got != "ping" {
					t.Errorf("echo: %q", got)
				}
				conn.CloseWrite()
				if rest := readAll(t, conn); rest != "" {
					t.Errorf("behind it: %q", rest)
				}
				r := f.await("the tunnel", func(r tunnel.Record) bool { return r.Event == tunnel.Opened })
				if r.Label != tt.label || r.Protocol != "socks5" {
					t.Errorf("recorded %+v", r)
				}
			})
		}
	}
}

func TestSOCKS5Refusals(t *testing.T) {
	closed := socks5To(t, refusedPort(t))
	long := strings.Repeat("a", 255)
	tests := []struct {
		name, yaml string
		auth       bool
		say, want  string
		class      failure.Class
	}{
		{"SOCK-05 none offered", local, true, greetNone, noMethod, failure.Auth},
		{"SOCK-06 no sub-negotiation", local, true, greetPass + nameTo443, methodPass, failure.BadRequest},
		{"SOCK-08 wrong password", local, true, greetPass + userPass("alice", "wrong"), methodPass + "\x01\x01", failure.Auth},
		{"SOCK-08 unknown user", local, true, greetPass + userPass("mallory", "s3cr@t"), methodPass + "\x01\x01", failure.Auth},
		{"GSSAPI alone", local, false, "\x05\x01\x01", noMethod, failure.BadRequest},
		{"no method", local, false, "\x05\x00", noMethod, failure.BadRequest},
		{"SOCK-09 version 4", local, false, greetNone + "\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x50", methodNone, failure.BadRequest},
		{"SOCK-09 version 6", local, false, greetNone + "\x06\x01\x00\x01\x7f\x00\x00\x01\x00\x50", methodNone, failure.BadRequest},
		{"SOCK-11 BIND", local, false, greetNone + "\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", methodNone + socksFailure(7), failure.BadRequest},
		{"SOCK-11 UDP", local, false, greetNone + "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", methodNone + socksFailure(7), failure.BadRequest},
		{"SOCK-11 unknown", local, false, greetNone + "\x05\x09\x00\x01\x7f\x00\x00\x01\x00\x50", methodNone + socksFailure(7), failure.BadRequest},
		{"SOCK-12 type 2", local, false, greetNone + "\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50", methodNone + socksFailure(8), failure.BadRequest},
		{"SOCK-12 type 5", local, false, greetNone + "\x05\x01\x00\x05\x7f\x00\x00\x01\x00\x50", methodNone + socksFailure(8), failure.BadRequest},
		{"SOCK-13 refused", local, false, greetNone + closed, methodNone + socksFailure(5), failure.TargetRefused},
		{"SOCK-13 denied", "default: reject", false, greetNone + nameTo443, methodNone + socksFailure(2), failure.Denied},
		{"TGT-20 line end", local, false, greetNone + "\x05\x01\x00\x03\x07h\r\nX: y\x00\x50", methodNone + socksFailure(1), failure.BadRequest},
		{"TGT-20 space", local, false, greetNone + "\x05\x01\x00\x03\x03a b\x00\x50", methodNone + socksFailure(1), failure.BadRequest},
		{"TGT-23 no name", local, false, greetNone + "\x05\x01\x00\x03\x00\x00\x50", methodNone + socksFailure(1), failure.BadRequest},
		{"TGT-23 long name", local, false, greetNone + "\x05\x01\x00\x03\xff" + long + "\x00\x50", methodNone + socksFailure(1), failure.BadRequest},
		{"port 0", local, false, greetNone + "\x05\x01\x00\x03\x09a.example\x00\x00", methodNone + socksFailure(1), failure.BadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, tt.yaml, nil)
			if tt.auth {
				f = startFront(t, tt.yaml, withUsers)
			}
			start := time.Now()
			conn := f.dial()
			write(t, conn, tt.say)
			if got := readAll(t, conn); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			conn.Close()
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v", took)
			}
			r := f.refused(tt.class)
			if strings.ContainsAny(r.Host+r.Text, "\r\n") || strings.Contains(r.Text, "mallory") || strings.Contains(r.Text, "wrong ") && strings.Contains(r.Text, "s3cr") {
				t.Errorf("recorded %+v", r)
			}
		})
	}
}

func TestSOCKS4(t *testing.T) {
	target := echo(t)
	_, port := hostPort(t, target)
	p := string([]byte{byte(port >> 8), byte(port)})
	granted, refused := string(socks4Granted), string(socks4Refused)
	tests := []struct {
		name, yaml string
		auth       bool
		say, want  string
		label      string
		class      failure.Class
	}{
		{"address", local, false, socks4To(t, target), granted, "me", ""},
		{"4a", local, false, "\x04\x01" + p + "\x00\x00\x00\x01me+websocket\x00localhost\x00", granted, "me", ""},
		{"4a without user", local, false, "\x04\x01" + p + "\x00\x00\x00\xff\x00localhost\x00", granted, "", ""},
		{"early", local, false, socks4To(t, target) + "EARLY", granted + "EARLY", "me", ""},
		{"SOCK-14", local, false, "\x04\x01\x00\x50\x7f\x00\x00\x01" + strings.Repeat("u", 70000), refused, "", failure.BadRequest},
		{"long name", local, false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00" + strings.Repeat("u", 300), refused, "", failure.BadRequest},
		{"SOCK-16", local, false, "\x04\x01\x00\x50\x00\x00\x00\x00\x00", refused, "", failure.BadRequest},
		{"SOCK-17", local, true, socks4To(t, target), refused, "", failure.Auth},
		{"BIND", local, false, "\x04\x02\x00\x50\x7f\x00\x00\x01\x00", refused, "", failure.BadRequest},
		{"no name", local, false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00", refused, "", failure.BadRequest},
		{"refused", local, false, socks4To(t, refusedPort(t)), refused, "", failure.TargetRefused},
		{"denied", "default: reject", false, "\x04\x01\x00\x50\x00\x00\x00\x01\x00a.example\x00", refused, "", failure.Denied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, tt.yaml, nil)
			if tt.auth {
				f = startFront(t, tt.yaml, withUsers)
			}
			conn := f.dial()
			go func() { _, _ = io.WriteString(conn, tt.say) }()
			if got := readN(t, conn, len(tt.want)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.class != "" {
				f.refused(tt.class)
				return
			}
			r := f.await("the tunnel", func(r tunnel.Record) bool { return r.Event == tunnel.Opened })
			if r.Label != tt.label || r.Protocol != "socks4" {
				t.Errorf("recorded %+v", r)
			}
		})
	}
}

// parsed4 is what a SOCKS4 request comes to.
type parsed4 struct {
	n           int
	host, label string
	port        uint16
	bad         bool
}

func readSOCKS4(b []byte) parsed4 {
	var r tunnel.Request
	n, f := parseSOCKS4(b, &r)
	if f != nil || n == 0 {
		return parsed4{bad: f != nil}
	}
	return parsed4{n, r.Host, r.Label, r.Port, false}
}

func FuzzSOCKS4(f *testing.F) {
	f.Add([]byte("\x04\x01\x01\xbb\x00\x00\x00\x01me\x00a.example\x00EARLY"))
	f.Add([]byte("\x04\x01\x00\x50\x7f\x00\x00\x01\x00"))
	f.Add([]byte("\x04\x02\x00\x50"))
	f.Fuzz(func(t *testing.T, b []byte) {
		want := readSOCKS4(b)
		for i := range b { // whatever arrives first, the decision is the same
			got := readSOCKS4(b[:i])
			if got.bad && !want.bad || got.n > 0 && got != want {
				t.Fatalf("after %d bytes %+v, at the end %+v", i, got, want)
			}
		}
		if want.n > len(b) || len(want.host) > maxSOCKS4 || len(want.label) > maxLabel {
			t.Errorf("%+v of %d bytes", want, len(b))
		}
	})
}
