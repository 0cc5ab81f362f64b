package upstream

import (
	"fmt"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// A direct way on which nothing answers may be to blame itself, as where an
// exchange drops what one local address sends: the next member is tried, and the
// first is charged once another has opened the way.
func TestSilenceOnADirectWay(t *testing.T) {
	t.Parallel()
	hole := at(testkit.BlackHole(t))
	echo := testkit.NewTCP(t, testkit.Echo)
	opens := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}})
	with := func(second string) *Set {
		return load(t, fmt.Sprintf(`attempt_seconds: 0.1
allow_private: [127.0.0.0/8]
pools: {p: {strategy: failover, proxies: [{name: a, url: "direct://127.0.0.1"}, {name: b, url: %q}]}}
default: p
`, second), nil)
	}
	s := with(opens.URL())
	stopped(s)
	for i := range 4 {
		way := open(t, only(t, s), hole)
		way.Release()
		if got, want := tries(way.Tried), "a target_timeout"; i < 3 && got != want {
			t.Fatalf("request %d: tried %q, want %q", i, got, want)
		}
		if got, want := out(s), "a"; i >= 2 && got != want || i < 2 && got != "" {
			t.Fatalf("after %d requests %q is out", i+1, got)
		}
	}
	s = with("direct://127.0.0.2") // silent too: nobody is charged
	stopped(s)
	for range 4 {
		_, err := only(t, s).Dial(budget(t, testkit.Patience/4), hole)
		if err == nil || !strings.Contains(err.Error(), "2 tried") {
			t.Fatal(err)
		}
	}
	if got := out(s); got != "" {
		t.Errorf("%q is out for the target's silence", got)
	}
}
