package admin

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/config"
)

const secretToken = "CANARY-token-of-the-admin"

// guardedServer is a server whose token is wanted from this machine too. It
// gives its address.
func guardedServer(t *testing.T, token string) string {
	t.Helper()
	o := wellOptions(t)
	o.Settings = func() config.Admin { return config.Admin{Token: config.NewSecret(token), Local: "token"} }
	return serve(t, o, "")
}

// recordedAdmin is something else at the admin address, which takes on the looks
// of a proxyd. seen is all that it was sent.
func recordedAdmin(t *testing.T, challenge string) (address string, seen func() string) {
	t.Helper()
	var mu sync.Mutex
	var all strings.Builder
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = r.Write(&all)
		w.Header().Set("Server", serverName)
		w.Header().Add("WWW-Authenticate", `Bearer realm="proxyd"`)
		w.Header().Add("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); <-done })
	return ln.Addr().String(), func() string { mu.Lock(); defer mu.Unlock(); return all.String() }
}

// Promise (security): the command never sends admin.token, so that what listens
// at the admin address instead of proxyd does not learn it.
func TestTokenIsNeverSent(t *testing.T) {
	for _, challenge := range []string{"Basic realm=x", `Proxyd nonce="1.a.b"`, `Proxyd nonce=""`, `Proxyd nonce="a b"`, "Proxyd", `Proxyd realm="x", nonce="a"`} {
		address, seen := recordedAdmin(t, challenge)
		c := NewClient(address, config.NewSecret(secretToken))
		_, errStatus := c.Status(t.Context())
		_, errReload := c.Reload(t.Context(), false)
		_, errDrain := c.Drain(t.Context(), "u", "", true)
		for _, err := range []error{errStatus, errReload, errDrain} {
			if err == nil || strings.Contains(err.Error(), secretToken) {
				t.Errorf("%s: %v", challenge, err)
			}
		}
		if got := seen(); got == "" || strings.Contains(got, secretToken) {
			t.Errorf("%s: it was sent %q", challenge, got)
		}
	}
}

// The right token opens the server, another one does not.
func TestClientAnswersTheChallenge(t *testing.T) {
	address := guardedServer(t, secretToken)
	c := NewClient(address, config.NewSecret(secretToken))
	if s, err := c.Status(t.Context()); err != nil || s.PID != 42 {
		t.Errorf("status: %+v, %v", s, err)
	}
	if r, err := c.Reload(t.Context(), true); err != nil || !r.Applied {
		t.Errorf("reload: %+v, %v", r, err)
	}
	if list, err := c.Route(t.Context(), []string{"api.binance.com", "b.example:80"}, "websocket", ""); err != nil || len(list) != 2 {
		t.Errorf("route: %v, %v", list, err)
	}
	for _, other := range []config.Secret{config.NewSecret("another"), {}} {
		_, err := NewClient(address, other).Status(t.Context())
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
			t.Errorf("another token: %v", err)
		}
	}
	if err := NewClient(address, config.Secret{}).Healthy(t.Context(), true, ""); err != nil {
		t.Errorf("readyz without a token: %v", err)
	}
}

// An answer holds for its request alone, once, for a while, and for this server.
func TestAnswersHoldForOneRequest(t *testing.T) {
	address := guardedServer(t, secretToken)
	token := config.NewSecret(secretToken)
	challenge := func(address string) string {
		t.Helper()
		for _, v := range get(t, address, "/api/v1/status").header.Values("WWW-Authenticate") {
			if n := param(v, "nonce"); n != "" {
				return n
			}
		}
		t.Fatal("no challenge")
		return ""
	}
	answer := func(nonce, method, uri string) string {
		return `Authorization: Proxyd nonce="` + nonce + `", mac="` + proof(token, nonce, method, uri) + `"`
	}
	nonce := challenge(address)
	for _, c := range []struct {
		name, field string
		status      int
	}{
		{"for another path", answer(nonce, "GET", "/api/v1/tunnels"), 401},
		{"for another query", answer(nonce, "GET", "/api/v1/status?x=1"), 401},
		{"for another method", answer(nonce, "POST", "/api/v1/status"), 401},
		{"of another server", answer(challenge(guardedServer(t, secretToken)), "GET", "/api/v1/status"), 401},
		{"a nonce of its own making", answer("lr0w2t3c.x.y", "GET", "/api/v1/status"), 401},
		{"without a mac", `Authorization: Proxyd nonce="` + nonce + `"`, 401},
		{"the right one", answer(nonce, "GET", "/api/v1/status"), 200},
		{"the same again", answer(nonce, "GET", "/api/v1/status"), 401},
	} {
		if got := get(t, address, "/api/v1/status", c.field); got.status != c.status {
			t.Errorf("%s: %d, want %d", c.name, got.status, c.status)
		}
	}
	s := newChallenges()
	for age, want := range map[time.Duration]bool{0: true, challengeTime - time.Second: true, challengeTime + time.Second: false, -time.Minute: false} {
		n := s.nonce(time.Now().Add(-age), "random")
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/x", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", strings.TrimPrefix(answer(n, "GET", "/x"), "Authorization: "))
		if got := s.answered(r, token); got != want {
			t.Errorf("after %v: %v", age, got)
		}
	}
}
