package upstream

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// The end of an https upstream's certificate is known from its last handshake, also
// from one that failed because of it, and for as long as the upstream stays.
func TestCertificateIsKnownFromTheLastHandshake(t *testing.T) {
	ca := testkit.NewCA(t)
	certs := map[string]*tls.Config{
		"far":     ca.ServerUntil(t, time.Now().Add(60*24*time.Hour), "px.example"),
		"soon":    ca.ServerUntil(t, time.Now().Add(5*24*time.Hour), "px.example"),
		"renewed": ca.ServerUntil(t, time.Now().Add(89*24*time.Hour), "px.example"),
		"expired": ca.ExpiredServer(t, "px.example"),
	}
	var current atomic.Pointer[tls.Certificate]
	use := func(name string) time.Time {
		current.Store(&certs[name].Certificates[0])
		return certs[name].Certificates[0].Leaf.NotAfter
	}
	server := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil }}
	p := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "https", TLS: server, Hosts: map[string]string{"*": testkit.NewTCP(t, testkit.Echo).Addr}})
	text := fmt.Sprintf("pools: {p: {proxies: [{name: a, url: %q, tls: {ca_file: %q, server_name: px.example}}]}}\ndefault: p\n", p.URL(), ca.File)
	set := load(t, text, nil)
	same := func(step string, want time.Time) {
		t.Helper()
		if got := set.Upstream("a").Status().CertificateExpires; !got.Equal(want) {
			t.Errorf("%s: expires %v, want %v", step, got, want)
		}
	}
	same("no handshake yet", time.Time{})
	want := use("far")
	open(t, only(t, set), venue)
	same("the first handshake", want)

	set = reload(t, set, "drain_seconds: 9\n"+text, nil)
	set.Activate()
	same("a reload", want)

	want = use("soon")
	set = load(t, text, nil)
	open(t, only(t, set), venue)
	same("it expires soon", want)
	if !set.Upstream("a").Certificate().ExpiresSoon(time.Now()) {
		t.Error("does not expire soon")
	}
	open(t, only(t, set), venue)
	want = use("renewed")
	open(t, only(t, set), venue) // by a session, the old certificate would be seen
	same("it was renewed", want)

	exported, err := json.Marshal(set.Export())
	if err != nil {
		t.Fatal(err)
	}
	var came []Memory
	if err := json.Unmarshal(exported, &came); err != nil {
		t.Fatal(err)
	}
	set = load(t, text, nil)
	set.Import(came)
	same("the next process", want)

	want = use("expired")
	set = load(t, text, nil)
	denied(t, only(t, set), venue, testkit.Patience, failure.UpstreamTLS)
	same("it has expired", want)
}
