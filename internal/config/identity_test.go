package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An upstream has one password, wherever it stands: with two, one of them would
// be sent in the other's place.
func TestOneUpstreamWithTwoPasswords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxyd.yaml")
	for text, fault := range map[string]bool{
		"pools: {a: {proxies: ['http://u:one@h:1']}, b: {proxies: ['http://u:two@h:1']}}":                     true,
		"exchanges: {binance: 'socks5://u:one@h:1', kraken: 'socks5h://u:two@h:1'}":                           true,
		"pools: {a: {proxies: ['http://u:one@h:1']}, b: {proxies: ['http://u:one@h:1']}}":                     false,
		"pools: {a: {proxies: ['http://u:one@h:1']}, b: {proxies: [{url: 'http://v:two@h:1', name: other}]}}": false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, nil)
		if fault != (err != nil) || fault && !strings.Contains(err.Error(), "with another password") {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && (strings.Contains(err.Error(), "one@") || strings.Contains(err.Error(), "two")) {
			t.Errorf("the fault shows it: %v", err)
		}
	}
}
