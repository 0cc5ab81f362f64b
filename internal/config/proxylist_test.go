package config

import (
	"strings"
	"testing"
)

func TestParseList(t *testing.T) {
	text := "\ufeff# of a friend\n\nsocks5://bob:geheim-1@a.example:1080\r\nhttp://a.example:3128 \nhttp://a.example:3128\n" +
		"a.example:3128\nhttp://u:geheim-2/@b.example:1\ndirect\nsocks5://eve:${PW}@a.example:1080\n  ftp://c.example:21\n"
	proxies, lines, errs := ParseList("list.txt", []byte(text), "")
	var got []string
	for i, p := range proxies {
		got = append(got, p.Name+" "+string(p.URL.Scheme)+" "+p.URL.User.Reveal()+" "+p.URL.Password.Reveal())
		if p.Exit != p.Name || !p.Enabled || p.Weight != 1 || p.Tier != 1 || !strings.Contains(lines[i], "://") {
			t.Errorf("%+v of %q", p, lines[i])
		}
	}
	want := []string{"a.example:1080 socks5 bob geheim-1", "a.example:3128 http  ", "a.example:1080#2 socks5 eve ${PW}"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
	said := errs.Error()
	for _, want := range []string{"list.txt:6:1: is not of the form URL, which the list has", "list.txt:7:1: ", "list.txt:8:1: is no proxy", "list.txt:10:1: unknown scheme"} {
		if !strings.Contains(said, want) {
			t.Errorf("want %q in\n%s", want, said)
		}
	}
	if len(errs) != 4 || strings.Contains(said, "geheim") {
		t.Errorf("got\n%s", said)
	}
}

// Sessions at a gateway may differ in the password alone: each is a proxy.
func TestParseListSessions(t *testing.T) {
	proxies, urls, errs := ParseList("list.txt", []byte("g.example:1:bob:x_1\ng.example:1:bob:x_2\ng.example:1:bob:x_1\n"), SchemeSOCKS5)
	if len(errs) > 0 || len(proxies) != 2 || len(urls) != 2 || proxies[0].Name != "g.example:1" || proxies[1].Name != "g.example:1#2" || IdentityOf(proxies[0]) == IdentityOf(proxies[1]) {
		t.Errorf("%v, %v, %v", proxies, urls, errs)
	}
}

// Many lists have user and password behind the port. Such a line is no URL, and
// what it has there is in no error.
func TestParseListHostPortUserPassword(t *testing.T) {
	for _, line := range []string{
		"socks5://a.example:1080:geheim-1:geheim-2", "http://192.0.2.1:8080:geheim-1:123456", "http://a.example:geheim-1:1",
		"http://a.example:1080:geheim-1",
	} {
		proxies, _, errs := ParseList("list.txt", []byte(line), "")
		said := errs.Error()
		if len(proxies) != 0 || strings.Contains(said, "geheim") || strings.Contains(said, "123456") || !strings.Contains(said, "user:password@host") {
			t.Errorf("%s: %v, %s", line, proxies, said)
		}
	}
	if proxies, _, errs := ParseList("list.txt", []byte("http://[::1]:1\nhttp://2001:db8::1:8080\n"), ""); len(proxies) != 1 || len(errs) != 1 || !strings.Contains(errs.Error(), "IPv6 address in brackets") {
		t.Errorf("%v", errs)
	}
}
