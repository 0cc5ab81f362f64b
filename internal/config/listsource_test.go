package config_test

import (
	"testing"

	"proxyd/internal/config"
)

// Promise (security): whoever serves a list from a URL cannot make proxyd go direct, read a variable, or dial a link-local address.
func TestLinesOfAListFromAURLAreProxiesAlone(t *testing.T) {
	t.Parallel()
	s := &config.ListSource{Shown: "https://lists.example/***", Scheme: config.SchemeHTTP, Max: 10}
	for _, line := range []string{"direct", "direct://", "http://169.254.169.254:80", "socks5://[fe80::1]:1080", "http://[::ffff:169.254.169.254]:80", "http://a:1/${HOME}"} {
		list, err := s.Read([]byte("http://192.0.2.1:1\nhttp://192.0.2.2:1\n" + line + "\n"))
		if err != nil || list.Proxies() != 2 {
			t.Errorf("%s: %d proxies, %v", line, list.Proxies(), err)
		}
	}
}
