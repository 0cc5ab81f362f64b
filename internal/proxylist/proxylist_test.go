package proxylist

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, form, want, problems string }{
		"nothing":                            {"\n# x\n", "", "", ""},
		"host:port":                          {"a.example:1\n[2001:db8::1]:2\n", "HOST:PORT", "1 s://a.example:1|2 s://[2001:db8::1]:2", ""},
		"a byte order mark and CRLF":         {"\ufeffa.example:1\r\n\r\nb.example:2\r\n", "HOST:PORT", "1 s://a.example:1|3 s://b.example:2", ""},
		"comments":                           {"# x\na.example:1 # y\n\t#z\nb.example:2\t# y\n", "HOST:PORT", "2 s://a.example:1|4 s://b.example:2", ""},
		"a # within a password":              {"a.example:1:u:p#q\n", "HOST:PORT:USER:PASSWORD", "1 s://u:p%23q@a.example:1", ""},
		"colons in a password":               {"a.example:1:u:p:q:\n", "HOST:PORT:USER:PASSWORD", "1 s://u:p%3Aq%3A@a.example:1", ""},
		"an empty password":                  {"a.example:1:u:\n", "HOST:PORT:USER:PASSWORD", "1 s://u:@a.example:1", ""},
		"a password like host:port":          {"192.0.2.1:1:u:192.0.2.2:3\n", "HOST:PORT:USER:PASSWORD", "1 s://u:192.0.2.2%3A3@192.0.2.1:1", ""},
		"user:password:host:port":            {"u:p:a.example:1\n", "USER:PASSWORD:HOST:PORT", "1 s://u:p@a.example:1", ""},
		"a password that is a number, alone": {"u:1080:192.0.2.1:3128\n", "USER:PASSWORD:HOST:PORT", "1 s://u:1080@192.0.2.1:3128", ""},
		"one that is a number, among others": {"u:1080:a.example:1\nu:x:b.example:2\n", "USER:PASSWORD:HOST:PORT", "1 s://u:1080@a.example:1|2 s://u:x@b.example:2", ""},
		"two at signs":                       {"u:p@q@a.example:1\n", "USER:PASSWORD@HOST:PORT", "1 s://u:p%40q@a.example:1", ""},
		"a user alone":                       {"u@a.example:1\n", "USER:PASSWORD@HOST:PORT", "1 s://u:@a.example:1", ""},
		"a reference":                        {"${a}:${b}@a.example:1\n", "USER:PASSWORD@HOST:PORT", "1 s://%24%7Ba%7D:%24%7Bb%7D@a.example:1", ""},
		"URLs":                               {"http://u:p@a.example:1\nsocks5://b.example:2\n", "URL", "1 http://u:p@a.example:1|2 socks5://b.example:2", ""},
		"another form":                       {"a.example:1:u:p\nu:p@b.example:2\nc.example:3:u:p\nhttp://d.example:4\n", "HOST:PORT:USER:PASSWORD", "1 s://u:p@a.example:1|3 s://u:p@c.example:3", "2 4"},
		"two forms, the first line's":        {"u:p@b.example:2\na.example:1:u:p\n", "USER:PASSWORD@HOST:PORT", "1 s://u:p@b.example:2", "2"},
		"white space":                        {"a.example:1 u p\nb.example:1\n", "HOST:PORT", "2 s://b.example:1", "1"},
		"ports":                              {"a.example:0\na.example:65536\na.example:x\na.example:65535\n", "HOST:PORT", "4 s://a.example:65535", "1 2 3"},
		"none":                               {"hello\nworld\n", "", "", "1 2"},
		"CSV":                                {"IP Address,Port,User,Password\na.example,1,u,\"p,\"\"q # r\"\nb.example,2,,\nc.example,x,,\n\"d\n", "CSV with a header", "2 s://u:p%2C%22q%20%23%20r@a.example:1|3 s://b.example:2", "4 5"},
		"CSV with host:port":                 {"proxy;country\na.example:1;JP\nu:p@b.example:2;JP\nhttp://c.example:3;JP\n", "CSV with a header", "2 s://a.example:1|3 s://u:p@b.example:2|4 http://c.example:3", ""},
		"CSV with tabs and protocols":        {"host\tport\tprotocols\na.example\t1\tsocks4, socks5\nb.example\t2\tHTTP\n", "CSV with a header", "2 socks5://a.example:1|3 http://b.example:2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := Parse([]byte(c.text), "s")
			var got, problems []string
			for _, e := range l.Entries {
				got = append(got, fmt.Sprint(e.Line, " ", e.URL))
			}
			for _, p := range l.Problems {
				problems = append(problems, fmt.Sprint(p.Line))
			}
			if l.Form != c.form || strings.Join(got, "|") != c.want || strings.Join(problems, " ") != c.problems {
				t.Errorf("got %s: %s, problems %s", l.Form, strings.Join(got, "|"), strings.Join(problems, " "))
			}
		})
	}
}

// Windows' Notepad saves lists as "Unicode", too: UTF-16 with its mark.
func TestParseUTF16(t *testing.T) {
	t.Parallel()
	const text = "# ü\r\n192.0.2.1:1080:bob:p\u00e4\U0001F511\r\n192.0.2.2:1080:bob:x\r\n"
	want := Parse([]byte(text), "")
	for name, order := range map[string]binary.AppendByteOrder{"little endian": binary.LittleEndian, "big endian": binary.BigEndian} {
		var wide []byte
		for _, u := range utf16.Encode([]rune("\ufeff" + text)) {
			wide = order.AppendUint16(wide, u)
		}
		if got := Parse(wide, ""); len(got.Entries) != 2 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if got := Recognise(wide); got != Lines {
			t.Errorf("%s is %q", name, got)
		}
		if got := Parse(wide[:len(wide)-1], ""); len(got.Entries) != 2 {
			t.Errorf("%s, cut off: %v", name, got)
		}
		without := Parse(wide[2:], "")
		if len(without.Entries) > 0 || len(without.Problems) == 0 || !strings.Contains(without.Problems[0].Message, "zero byte") || !strings.Contains(without.Problems[0].Hint, "UTF-8") {
			t.Errorf("%s without a mark: %v", name, without)
		}
	}
}

func TestRecognise(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Kind{
		"":                                     Unknown,
		"default: direct\n":                    Unknown,
		"direct\n":                             Unknown,
		"default: socks5://u:p@a.example:1\n":  Unknown,
		"pools: {a: {proxies: [direct]}}\n":    Unknown,
		"exchanges:\n  binance: direct\n":      Unknown,
		"a.example:1080:u:p\n":                 Lines,
		"# x\nsocks5://u:p@a.example:1\n":      Lines,
		"ip,port\n192.0.2.1,80\n":              Lines,
		"export HTTPS_PROXY=http://a:1\n":      Env,
		"A=1\nhttps_proxy=http://a:1\n":        Env,
		"mixed-port: 1\nproxies: []\n":         Clash,
		"proxies:\n  - {name: x, server: a}\n": Clash,
		"cache_peer a parent 1 0\n":            Squid,
		"gost -L=:8080 -F=http://a:1\n":        Gost,
		"-F socks5://a:1\n":                    Gost,
		"services:\n- name: x\n  addr: :1\n":   Gost,
		`{"ServeNodes": [":1"]}`:               Gost,
	} {
		if got := Recognise([]byte(text)); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// FuzzParse holds, for any text: no panic; every line is an entry, a problem or
// neither, and is so once; the credentials of an entry that was built are its line's;
// and no problem repeats text of the list.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"\ufeffa.example:1\r\n", "a.example:1:u:canary\n", "u:canary@a.example:1\n", "u:canary:192.0.2.1:1\n", "http://u:canary@a.example:1\n",
		"ip,port,username,password\n192.0.2.1,1,u,\"ca,nary\"\n", "[::1]:2:u:canary # x\n", "canary\n", "canary:canary\n", "\xff\xfea\x00:\x001\x00\n\x00", "a.example\x00:1:u:canary\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l := Parse([]byte(text), "socks5")
		text = string(UTF8([]byte(text)))
		seen := map[int]bool{}
		for _, e := range l.Entries {
			if seen[e.Line] || e.Line < 1 || e.Line > strings.Count(text, "\n")+1 {
				t.Fatalf("line %d of %q", e.Line, text)
			}
			seen[e.Line] = true
			if l.Form == "URL" || l.Form == csvForm {
				continue
			}
			u, err := url.Parse(e.URL)
			if err != nil {
				continue // its host is for package config to refuse
			}
			line := strings.Split(text, "\n")[e.Line-1]
			password, _ := u.User.Password()
			if !strings.Contains(line, password) || !strings.Contains(line, u.User.Username()) {
				t.Fatalf("%q has other credentials than %q", e.URL, line)
			}
		}
		for _, p := range l.Problems {
			if seen[p.Line] {
				t.Fatalf("line %d is twice", p.Line)
			}
			seen[p.Line] = true
			if strings.Contains(text, "canary") && strings.Contains(p.Message+p.Hint, "canary") {
				t.Fatalf("%q repeats the list", p.Message)
			}
		}
		Recognise([]byte(text))
	})
}
