package printable

import "testing"

func TestCutKeepsWordsWhole(t *testing.T) {
	for _, tt := range []struct {
		text, want string
		limit      int
	}{
		{"as it is", "as it is", 8},
		{"one word too many", "one word...", 12},
		{"no space near the end: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "no space near the end: aaaaaaaaaaaaaaaaaaaaaaaa...", 50},
	} {
		if got := Cut(tt.text, tt.limit); got != tt.want || len(got) > tt.limit {
			t.Errorf("Cut(%q, %d) = %q, want %q", tt.text, tt.limit, got, tt.want)
		}
	}
}

func TestCleanIsOneLineOfASCII(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{" a\r\nb\tc ", "a??b?c"},
		{"größe", "gr??e"},
		{"0123456789x", "0123456789..."},
	} {
		if got := Clean(tt.text, 10); got != tt.want {
			t.Errorf("Clean(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}
