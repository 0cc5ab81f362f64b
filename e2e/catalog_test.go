package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// Rows of the user's own are in force as soon as their file is saved, and a
// faulty one changes nothing.
func TestCatalogFileIsInForceAsSoonAsItIsSaved(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "http", Hosts: map[string]string{"*": echo.Addr}})
	file := filepath.Join(t.TempDir(), "rows.csv")
	save := func(rows string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("exchange,host,kind,env,sources\n"+rows), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save("my_venue,api.other.example,http,live,\n")
	p := start(t, loopback+"watch: true\ncatalog: "+file+"\ndefault: reject\nexchanges: {my_venue: "+proxy.URL()+"}\n")
	opens := func() bool {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: "api.venue.example:443"})
		defer c.Close()
		return reply.OK
	}
	if opens() {
		t.Fatal("a host that nothing lists was let out")
	}
	save("my_venue,api.venue.example,http,live,\n")
	testkit.Eventually(t, testkit.Patience, "the new row is in force", opens)
	if line := p.waitLine("reload", "the rows of "+file+" changed"); line == "" {
		t.Errorf("the reload does not say what changed:\n%s", p.Log)
	}
	save("my_venue,api.venue.example,grpc,live,\n")
	if line := p.waitLine("row 1: not a kind"); line == "" || !opens() {
		t.Errorf("a faulty row was taken, or not reported:\n%s", p.Log)
	}
}

// Promise (routing): what an exchange adds tomorrow goes where its listed hosts go.
func TestUnlistedHostOfAnExchangeLeavesThroughItsUpstream(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "http", Hosts: map[string]string{"*": echo.Addr}})
	p := start(t, loopback+"default: direct\nexchanges: {binance: "+proxy.URL()+"}\n")
	for range 3 {
		for _, protocol := range []testkit.Protocol{testkit.CONNECT11, testkit.SOCKS5, testkit.SOCKS4A} {
			c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: "new-stream.binance.com:443"})
			if !reply.OK {
				t.Errorf("%v: %v", protocol, reply)
			}
			c.Close()
		}
	}
	if line := p.waitLine("host not in the catalogue", "new-stream.binance.com"); !strings.Contains(line, "domain binance.com (host not in the catalogue)") {
		t.Errorf("got %s", line)
	}
	if n := strings.Count(p.Log.String(), `"host not in the catalogue"`); n != 1 {
		t.Errorf("it is reported %d times, want once\n%s", n, p.Log)
	}
}
