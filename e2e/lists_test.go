package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// Promise (routing): the list of a pool is reloaded when it is saved. One that is
// empty, or has shrunk below half, changes nothing by itself; SIGHUP applies a shrunk
// one, never one that would empty the pool.
func TestPoolListIsReloadedWhenSaved(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	var ups []*testkit.Proxy
	lines := func(from, to int) string {
		var list strings.Builder
		for _, u := range ups[from:to] {
			list.WriteString(u.Addr + ":bob:geheim-7\n")
		}
		return list.String()
	}
	for range 4 {
		ups = append(ups, testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", User: "bob", Password: "geheim-7", Hosts: map[string]string{"*": echo.Addr}}))
	}
	// Each tunnel is of another exchange: a dial that a busy machine makes slow degrades
	// its member, which the next tunnel of the exchange then goes around.
	file := filepath.Join(t.TempDir(), "asia.txt")
	saving(lines(0, 3))(t, file)
	p := start(t, loopback+"watch: true\npools: {asia: {strategy: failover, list: "+file+", scheme: socks5}}\ndefault: asia\n")
	kept, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target})
	if !reply.OK {
		t.Fatalf("%v\n%s", reply, p.Log)
	}
	if !leadsTo(t, "api.kraken.com:443", p, ups[0]) {
		t.Errorf("not through the first of the list:\n%s", p.Log)
	}

	saving(lines(1, 4))(t, file)
	if p.waitLine(`"type":"reload"`, "~ pool asia: 1 member added, 1 gone") == "" || !leadsTo(t, "www.okx.com:443", p, ups[1]) {
		t.Errorf("the list that was saved is not in force:\n%s", p.Log)
	}
	works(kept)

	saving("")(t, file)
	if p.waitLine(`"type":"reload_refused"`, "pools.asia.list: ", "has no proxy") == "" || !leadsTo(t, "api.bybit.com:443", p, ups[1]) {
		t.Errorf("the empty list is not refused:\n%s", p.Log)
	}
	saving(lines(3, 4))(t, file)
	if p.waitLine(`"type":"reload_refused"`, "pools.asia.list: asia.txt has shrunk from 3 members to 1: correct it; or, if it is meant, run: proxyd reload", `"hint":"correct the file; if it is meant, run: proxyd reload"`) == "" || !leadsTo(t, "api.bitget.com:443", p, ups[1]) {
		t.Errorf("the shrunk list is not refused:\n%s", p.Log)
	}
	p.reload <- struct{}{}
	if p.waitLine(`"type":"reload"`, "~ pool asia: 2 members gone") == "" || !leadsTo(t, "www.deribit.com:443", p, ups[3]) {
		t.Errorf("the shrunk list is not applied by SIGHUP:\n%s", p.Log)
	}
	saving("")(t, file)
	before := strings.Count(p.Log.String(), `"type":"reload_refused"`)
	p.reload <- struct{}{}
	testkit.Eventually(t, testkit.Patience, "an empty list is refused", func() bool {
		return strings.Count(p.Log.String(), `"type":"reload_refused"`) > before
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	saving(lines(0, 2))(t, file) // as when it is downloaded anew
	if p.waitLine(`"type":"reload"`, "~ pool asia: 2 members added, 1 gone") == "" || !leadsTo(t, "www.bitstamp.net:443", p, ups[0]) {
		t.Errorf("the new list is not in force:\n%s", p.Log)
	}
	if strings.Contains(p.Log.String(), "geheim") || strings.Contains(p.Log.String(), "bob") {
		t.Errorf("a credential is in the log:\n%s", p.Log)
	}
}
