package health

import (
	"compress/gzip"
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"proxyd/internal/catalog"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/testkit/routertest"
	"proxyd/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// snapshot is the router of a file.
func snapshot(t testing.TB, text string) *router.Router {
	t.Helper()
	return routertest.New(t, text, nil)
}

// through dials by one upstream, given by its URL.
func through(t testing.TB, url string) (Dial, func(context.Context) error) {
	t.Helper()
	set := snapshot(t, "pools: {p: {proxies: [{name: tokyo-1, url: \""+url+"\"}]}}\nallow_private: [127.0.0.0/8]\n").Set()
	u := set.Pool("p").Members()[0].Upstream
	return func(ctx context.Context, to upstream.Target) (*upstream.Conn, error) {
			return set.DialMember(ctx, u, to)
		},
		func(ctx context.Context) error { return set.Ping(ctx, u) }
}

// asks is a full probe of an exchange at host:443.
func asks(kind catalog.Kind, host string, roots *testkit.CA) Ask {
	scheme := "https"
	if kind == catalog.KindWebsocket {
		scheme = "wss"
	}
	return Ask{
		Method: Exchange, Target: upstream.Target{Host: host, Port: 443, Exchange: "binance", Kind: kind},
		URL: scheme + "://" + host + "/probe?x=1", Roots: roots.Pool,
	}
}

// at is an address as a target.
func at(addr string) upstream.Target {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	return upstream.Target{Host: host, IP: netip.MustParseAddr(host), Port: uint16(n)}
}

// zipped is a text as gzip.
func zipped(text string) string {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

func names(steps []Step) (list []string) {
	for _, s := range steps {
		list = append(list, s.Name)
	}
	return list
}

func diff(t *testing.T, got, want []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
