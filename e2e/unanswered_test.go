package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// A frozen HTTP upstream takes plain requests and answers none: clients that wait in
// vain are on record as such, and when the others of the pool answer it is out of use.
func TestFrozenUpstreamOfPlainRequests(t *testing.T) {
	t.Parallel()
	x := testkit.NewExchange(t)
	o := testkit.ProxyOptions{Hosts: map[string]string{"*": x.HTTP}}
	a, b := testkit.NewProxy(t, o), testkit.NewProxy(t, o)
	a.SetFault(testkit.On(testkit.AtRequest, testkit.Hang))
	socket := t.TempDir() + "/admin"
	p := launch(t, "", fmt.Sprintf("admin: unix:%s\nattempt_seconds: 0.5\npools: {asia: {proxies: [{name: a, url: %q}, {name: b, url: %q}]}}\nexchanges: {binance: asia}\ndefault: reject\n", socket, a.URL(), b.URL()))
	client := &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: p.Addr}), DisableKeepAlives: true},
	}
	ok := 0
	for n := 0; ok < 10; n++ {
		if n == 40 {
			t.Fatalf("of %d requests %d were answered; a is still in use\n%s", n, ok, p.Log)
		}
		resp, err := client.Get("http://api.binance.com/ping")
		if err != nil {
			ok = 0
			continue
		}
		_ = resp.Body.Close()
		ok++
	}
	if out, _ := p.command(t, "status"); !strings.Contains(out, "ejected") || !strings.Contains(out, "upstream_timeout") {
		t.Errorf("status:\n%s", out)
	}
	if !strings.Contains(p.Log.String(), "had the request and had not answered when the client left") || !strings.Contains(p.Log.String(), `"class":"target_timeout"`) {
		t.Errorf("no refusal in the log:\n%s", p.Log)
	}
}
