package proxyclient

import (
	"encoding/base64"
	"html"
	"strconv"
	"strings"

	"proxyd/internal/config"
)

// Credentials are the user and the password for a proxy, if it has any. They are
// immutable: a reload that changes a password makes new ones.
type Credentials struct {
	given          bool
	user, password config.Secret
	basic          config.Secret // the value of Proxy-Authorization
}

// newCredentials returns the credentials of a proxy's URL.
func newCredentials(u config.URL) *Credentials {
	c := &Credentials{given: u.HasAuth, user: u.User, password: u.Password}
	if c.given {
		pair := u.User.Reveal() + ":" + u.Password.Reveal()
		c.basic = config.NewSecret("Basic " + base64.StdEncoding.EncodeToString([]byte(pair)))
	}
	return c
}

// Equal reports whether c and o are the same.
func (c *Credentials) Equal(o *Credentials) bool {
	return c.given == o.given && c.user.Reveal() == o.user.Reveal() && c.password.Reveal() == o.password.Reveal()
}

// Basic returns the value of Proxy-Authorization (RFC 7617); ok is false if there
// are no credentials.
func (c *Credentials) Basic() (value config.Secret, ok bool) { return c.basic, c.given }

// repeatedIn reports whether text of the far end holds one of the secrets, in
// whatever case, and as it stands in a URL, in HTML or in JSON.
func (c *Credentials) repeatedIn(s string) bool {
	s = unescaped(s)
	for _, secret := range []config.Secret{c.user, c.password, c.basic} {
		text := strings.TrimPrefix(secret.Reveal(), "Basic ")
		if text != "" && strings.Contains(s, unescaped(text)) {
			return true
		}
	}
	return false
}

// unescaped returns text without its escapes, in lower case, to be compared with
// other text that went through it. What is no valid escape stays as it is.
func unescaped(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				c, i = byte(v), i+2
			}
		}
		b = append(b, c)
	}
	// A plus is a space in a form.
	return strings.NewReplacer(`\`, "", "+", " ").Replace(strings.ToLower(html.UnescapeString(string(b))))
}
