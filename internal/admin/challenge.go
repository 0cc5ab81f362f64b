package admin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"proxyd/internal/config"
)

// The command never sends the token: what listens at the admin address may be
// something else, which would then have it. It answers a challenge instead, with
// a code that holds for one request, once:
//
//	WWW-Authenticate: Proxyd nonce="NONCE"
//	Authorization: Proxyd nonce="NONCE", mac="HMAC-SHA256(token, NONCE \n METHOD \n URI)"
//
// Whatever else listens there may at most pass that one request on to proxyd.

const (
	challengeScheme = "Proxyd"
	challengeTime   = time.Minute // a challenge can be answered for so long
)

// challenges issues nonces and knows its own again. Those that are not answered
// are not kept. It is safe for concurrent use.
type challenges struct {
	key [32]byte

	mu   sync.Mutex
	used map[string]time.Time // when they were issued
}

func newChallenges() *challenges {
	c := &challenges{used: map[string]time.Time{}}
	_, _ = rand.Read(c.key[:]) // never fails (crypto/rand)
	return c
}

// header returns the value of a WWW-Authenticate field.
func (c *challenges) header() string {
	return challengeScheme + ` nonce="` + c.nonce(time.Now(), rand.Text()) + `"`
}

// nonce returns the time of issue, a random part, and a code that only this
// server can make.
func (c *challenges) nonce(at time.Time, random string) string {
	text := strconv.FormatInt(at.UnixMilli(), 36) + "." + random
	return text + "." + mac(c.key[:], text)
}

// answered reports whether a request holds the answer to a challenge, which it
// uses up.
func (c *challenges) answered(r *http.Request, token config.Secret) bool {
	field := r.Header.Get("Authorization")
	nonce := param(field, "nonce")
	parts := strings.Split(nonce, ".")
	if token.IsZero() || len(parts) != 3 {
		return false
	}
	ms, err := strconv.ParseInt(parts[0], 36, 64)
	at := time.UnixMilli(ms)
	if age := time.Since(at); err != nil || age < 0 || age > challengeTime || !equal(nonce, c.nonce(at, parts[1])) {
		return false
	}
	if !equal(param(field, "mac"), proof(token, nonce, r.Method, r.URL.RequestURI())) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, issued := range c.used {
		if time.Since(issued) > challengeTime {
			delete(c.used, n)
		}
	}
	_, again := c.used[nonce]
	c.used[nonce] = at
	return !again
}

// proof returns the answer to a challenge for one request.
func proof(token config.Secret, nonce, method, uri string) string {
	return mac([]byte(token.Reveal()), nonce+"\n"+method+"\n"+uri)
}

func mac(key []byte, text string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// param returns a parameter of a field of the challenge's scheme, "" if there
// is none.
func param(field, name string) string {
	scheme, rest, _ := strings.Cut(field, " ")
	if !strings.EqualFold(scheme, challengeScheme) {
		return ""
	}
	for p := range strings.SplitSeq(rest, ",") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(p), name+`="`); ok && strings.HasSuffix(v, `"`) {
			return strings.TrimSuffix(v, `"`)
		}
	}
	return ""
}

// nonceOf returns the nonce of a refusal that asks for the token, "" if there
// is none.
func nonceOf(resp *http.Response) string {
	if resp.StatusCode != http.StatusUnauthorized {
		return ""
	}
	for _, v := range resp.Header.Values("WWW-Authenticate") {
		// Another's may be anything; what is signed must have one reading.
		if n := param(v, "nonce"); n != "" && !strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return n
		}
	}
	return ""
}
