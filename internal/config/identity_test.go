package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An upstream has one password, wherever it stands: with two, one of them would
// be sent in the other's place.
func TestSameUpstreamWithTwoPasswords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxyd.yaml")
	for text, wrong := range map[string]bool{
		"pools: {a: {proxies: ['http://u:one@h:1']}, b: {proxies: ['http://u:two@h:1']}}":                     true,
		"exchanges: {binance: 'socks5://u:one@h:1', kraken: 'socks5h://u:two@h:1'}":                           true,
		"pools: {a: {proxies: ['http://u:one@h:1']}, b: {proxies: ['http://u:one@h:1']}}":                     false,
		"pools: {a: {proxies: ['http://u:one@h:1']}, b: {proxies: [{url: 'http://v:two@h:1', name: other}]}}": false,
		"pools: {a: {proxies: [{url: 'http://u:one@h:1', name: s1}, {url: 'http://u:two@h:1', name: s2}]}}":   false,
		"pools: {a: {proxies: [{url: 'http://u:one@h:1', name: s1}, {url: 'http://u:two@h:1', name: s1}]}}":   true,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, nil)
		if wrong != (err != nil) || wrong && !strings.Contains(err.Error(), "with another password") {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && (strings.Contains(err.Error(), "one@") || strings.Contains(err.Error(), "two")) {
			t.Errorf("the error shows it: %v", err)
		}
	}
}

// Members have one name exactly if they are one upstream: the password's names
// and the hop before count.
func TestNameForEachIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxyd.yaml")
	for name, text := range map[string]string{
		"hops that differ in the user": `"http://a:1", via: "http://u:p@hop:1"} {url: "http://a:1", via: "http://v:p@hop:1"} {url: "http://a:1", via: "http://u:p@hop:1", tier: 2`,
		"hops behind hops":             `"http://a:1", via: {url: "http://hop:1", via: "http://u:p@x:1"}} {url: "http://a:1", via: {url: "http://hop:1", via: "http://v:p@x:1"}} {url: "http://a:1", via: {url: "http://hop:1", via: "http://u:p@x:1"}`,
		"sessions in the password":     `"http://u:one@a:1", name: s1} {url: "http://u:two@a:1", name: s2} {url: "http://u:one@a:1", name: s1, tier: 2`,
		"users":                        `"http://u:p@a:1"} {url: "http://v:p@a:1"} {url: "http://u:p@a:1"`,
	} {
		text = "default: [{url: " + strings.ReplaceAll(text, "} {", "}, {") + "}]\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m := PoolsByName(c)["default"].Proxies
		if IdentityOf(m[0]) != IdentityOf(m[2]) || m[0].Name != m[2].Name {
			t.Errorf("%s: one upstream is two: %s, %s", name, m[0].Name, m[2].Name)
		}
		if IdentityOf(m[0]) == IdentityOf(m[1]) || m[0].Name == m[1].Name {
			t.Errorf("%s: two upstreams are one: %s, %s", name, m[0].Name, m[1].Name)
		}
		for _, one := range m {
			if id := fmt.Sprintf("%v %s", IdentityOf(one), one.Hop); strings.Contains(id, "u:") || strings.Contains(id, ":p") {
				t.Errorf("%s: an identity shows a credential: %s", name, id)
			}
		}
	}
}
