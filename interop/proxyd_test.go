//go:build interop

package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// Where proxyd listens.
const (
	open     = "127.0.0.1:8877"
	withAuth = "127.0.0.1:8878"
	withTLS  = "127.0.0.1:8879"
	oneExit  = "127.0.0.1:8880" // all that enters leaves through microsocks
)

const clientPassword = "client-Password-3"

// startProxyd runs the built binary with every upstream in its file, and one
// exchange through each.
func startProxyd(t *testing.T, w *world) *program {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `listen:
  - %s
  - {address: %q, auth: {users: [{name: bot, password: "${CLIENT_PW}"}]}}
  - {address: %q, tls: {cert_file: %q, key_file: %q}}
  - {address: %q, use: "socks5://127.0.0.1:1080"}
allow_private: [127.0.0.0/8]
default: reject
pools:
  failing_over:
    strategy: failover
    proxies: ["socks5://127.0.0.1:9", "http://127.0.0.1:8081"]
  through_dante: {via: "socks5://127.0.0.1:1082", proxies: [{name: far, url: "socks5://127.0.0.1:1080"}]}
  through_squid: {via: "http://127.0.0.1:3128", proxies: [{name: far-2, url: "socks5://feed:${STRANGE_PW}@127.0.0.1:1081"}]}
exchanges:
`, open, withAuth, withTLS, w.cert, w.key, oneExit)
	for _, u := range w.upstreams {
		member := fmt.Sprintf("name: %s, url: %q", u.name, u.url)
		if u.name == "squid-tls" {
			member += fmt.Sprintf(", tls: {ca_file: %q}", w.exchange.CA.File)
		}
		fmt.Fprintf(&b, "  %s: {hosts: [\"*.%s\"], pool: {proxies: [{%s}]}, timeout_seconds: 8}\n", u.exchange, u.domain, member)
		fmt.Fprintf(&b, "  %s_silent: {hosts: [silent.%s], pool: {proxies: [{%s}]}, timeout_seconds: 1}\n", strings.ReplaceAll(u.name, "-", "_"), u.domain, member)
	}
	for _, f := range faulty {
		seconds := 8
		if strings.HasSuffix(f.class, "_timeout") {
			seconds = 1
		}
		fmt.Fprintf(&b, "  %s: {hosts: [%s], url: %q, timeout_seconds: %d}\n", exchangeOf(f.name), hostOf(f.name), f.url, seconds)
	}
	b.WriteString(`  failing_over: {hosts: [failing-over.test], pool: failing_over}
  through_dante: {hosts: [through-dante.test], pool: through_dante}
  through_squid: {hosts: [through-squid.test], pool: through_squid}
`)
	p := start(t, []string{"PLAIN_PW=" + plainPassword, "STRANGE_PW=" + strangePassword, "CLIENT_PW=" + clientPassword},
		os.Getenv("INTEROP_PROXYD"), "run", "-c", file(t, "proxyd.yaml", b.String()))
	testkit.Eventually(t, testkit.Patience, "proxyd is ready", func() bool {
		select {
		case <-p.done:
			t.Fatalf("proxyd ended:\n%s", p.String())
		default:
		}
		return strings.Contains(p.String(), `"msg":"ready"`)
	})
	return p
}
