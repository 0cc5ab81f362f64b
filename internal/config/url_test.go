package config_test

import (
	"os"
	"path/filepath"
	"testing"
)

// What a reference stands for is literal, a reference's spelling too.
func TestReferencesAreLiteral(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(file, []byte("p${X\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ url, value, want string }{
		"the password":             {"http://u:${V}@h.example:1", "p${X}", "p${X}"},
		"any character":            {"http://u:${V}@h.example:1", "p@/:?#%41", "p@/:?#%41"},
		"the whole URL":            {"${V}", "http://u:p${X@h.example:1", "p${X"},
		"the whole URL, escaped":   {"${V}", "http://u:p%41$${X@h.example:1", "pA$${X"},
		"a file, one line end":     {"http://u:${file:" + file + "}@h.example:1", "", "p${X"},
		"a literal brace":          {"http://u:$${V}@h.example:1", "no", "${V}"},
		"text around":              {"http://u:a${V}b%41@h.example:1", "%41", "a%41bA"},
		"its own name in the text": {"http://u:${V}@h.example:1", "${V}", "${V}"},
	} {
		t.Run(name, func(t *testing.T) {
			loaded := load(t, "default: '"+c.url+"'\n", "V="+c.value, "X=never")
			if got := pool(t, loaded, loaded.Default.HTTP.Pool).Proxies[0].URL.Password.Reveal(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
