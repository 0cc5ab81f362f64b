package upstream

import (
	"encoding/base64"
	"strings"

	"proxyd/internal/config"
)

// credentials are what a membership gives an upstream. They belong to the
// membership and not to the Upstream: a password is no part of an identity, so
// a reload may change it, and a published snapshot must not change.
type credentials struct {
	given          bool
	user, password config.Secret
	basic          config.Secret // the value of Proxy-Authorization
}

func newCredentials(u config.URL) *credentials {
	c := &credentials{given: u.HasAuth, user: u.User, password: u.Password}
	if c.given {
		pair := u.User.Reveal() + ":" + u.Password.Reveal()
		c.basic = config.NewSecret("Basic " + base64.StdEncoding.EncodeToString([]byte(pair)))
	}
	return c
}

func (c *credentials) equal(o *credentials) bool {
	return c.given == o.given && c.user.Reveal() == o.user.Reveal() && c.password.Reveal() == o.password.Reveal()
}

// repeatedIn reports whether a far end's words hold one of the secrets.
func (c *credentials) repeatedIn(s string) bool {
	for _, secret := range []config.Secret{c.user, c.password, c.basic} {
		text := strings.TrimPrefix(secret.Reveal(), "Basic ")
		if text != "" && strings.Contains(s, text) {
			return true
		}
	}
	return false
}
