package inbound

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

// wrongDelay slows down guessing.
const wrongDelay = 200 * time.Millisecond

// maxLabel is how much of a proxy username the log shows.
const maxLabel = 64

// users are the credentials that a listener accepts, as digests of one length:
// comparing them takes the same time whatever was wrong.
type users struct {
	list    []config.User
	digests [][sha256.Size]byte
}

func newUsers(list []config.User) *users {
	u := &users{list: list}
	for _, x := range list {
		u.digests = append(u.digests, digest(x.Name, x.Password.Reveal()))
	}
	return u
}

// madeFrom reports whether u was made from this very list.
func (u *users) madeFrom(list []config.User) bool {
	return u != nil && len(u.list) == len(list) && &u.list[0] == &list[0]
}

// accept compares with every user, always.
func (u *users) accept(name, password string) bool {
	d := digest(name, password)
	ok := 0
	for i := range u.digests {
		ok |= subtle.ConstantTimeCompare(d[:], u.digests[i][:])
	}
	return ok == 1
}

// digest covers both, and where one ends.
func digest(name, password string) [sha256.Size]byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(len(name)))
	b = append(b, name...)
	b = append(b, password...)
	return sha256.Sum256(b)
}

// identity is what a client's credentials say beside letting it in.
type identity struct {
	label string
	kind  catalog.Kind
}

// identify checks a name and a password. Without users every client is let in,
// and the name is only a label; a refusal means a wrong password or an unknown
// name.
//
// A suffix +websocket or +http is cut off the name before it is compared. Some
// clients send percent escapes as they stand in the proxy URL; they are
// decoded, once, if the plain text is not accepted.
func (u *users) identify(name, password string) (identity, *refusal) {
	plain, kind := cutKind(name)
	if u == nil {
		if d, ok := unescape(name); ok {
			plain, kind = cutKind(d)
		}
		return identity{label(plain), kind}, nil
	}
	if u.accept(plain, password) {
		return identity{label(plain), kind}, nil
	}
	decoded, ok1 := unescape(name)
	secret, ok2 := unescape(password)
	if ok1 || ok2 {
		plain, kind = cutKind(decoded)
		if u.accept(plain, secret) {
			return identity{label(plain), kind}, nil
		}
	}
	return identity{}, &refusal{
		class: failure.Auth, text: "unknown user or wrong password", delay: wrongDelay,
		hint: "check the credentials in the client's proxy URL against the listener's auth.users",
	}
}

// noCredentials is for a listener with users and a client that sends none.
var noCredentials = &refusal{
	class: failure.Auth, text: "this listener needs a user and a password",
	hint: "put them into the proxy URL: http://NAME:PASSWORD@HOST:PORT",
}

// cutKind splits the kind's suffix off a username.
func cutKind(name string) (string, catalog.Kind) {
	if n, ok := strings.CutSuffix(name, "+websocket"); ok {
		return n, catalog.KindWebsocket
	}
	if n, ok := strings.CutSuffix(name, "+http"); ok {
		return n, catalog.KindHTTP
	}
	return name, catalog.KindUnknown
}

// unescape decodes percent escapes. It returns false when there are none, and s
// comes back.
func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, false
	}
	d, err := url.PathUnescape(s)
	if err != nil || d == s {
		return s, false
	}
	return d, true
}

func label(name string) string { return printable.Cut(printable.ASCII(name), maxLabel) }

// identifyHTTP reads Proxy-Authorization. Without users a field that cannot be
// read is ignored.
func (u *users) identifyHTTP(h *head) (identity, *refusal) {
	value, n := "", 0
	for _, f := range h.fields {
		if f.is("proxy-authorization") {
			value = string(f.value)
			n++
		}
	}
	if n == 0 {
		if u != nil {
			return identity{}, noCredentials
		}
		return identity{}, nil
	}
	name, password, ok := basic(value)
	switch {
	case ok && n == 1:
		return u.identify(name, password)
	case u == nil:
		return identity{}, nil
	case n > 1:
		return identity{}, bad("the request has more than one Proxy-Authorization")
	}
	return identity{}, &refusal{
		class: failure.Auth, text: "the Proxy-Authorization" + byScheme(value) + " cannot be read",
		hint: "this proxy accepts Basic alone",
	}
}

// byScheme names the scheme of credentials if it is a known one: anything else
// may be the credentials themselves.
func byScheme(value string) string {
	word, _, _ := strings.Cut(value, " ")
	for _, known := range []string{"Basic", "Digest", "Bearer", "Negotiate", "NTLM"} {
		if strings.EqualFold(word, known) {
			return " by " + known
		}
	}
	return ""
}

// basic reads the Basic scheme (RFC 7617). The colon may be missing: some send
// a name alone so. So may the padding.
func basic(value string) (name, password string, ok bool) {
	scheme, text, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "basic") {
		return "", "", false
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.Trim(text, " \t"), "="))
	if err != nil {
		return "", "", false
	}
	name, password, _ = strings.Cut(string(b), ":")
	return name, password, true
}
