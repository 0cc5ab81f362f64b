package config

// Secret is text that must not be shown. It masks itself wherever it is
// printed, marshalled or logged; Reveal is the one way to read it.
type Secret struct{ text string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.text == "" }

// String returns "***", or "" when there is no text.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return "***"
}

// GoString masks like String.
func (s Secret) GoString() string { return s.String() }

// MarshalText masks like String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
