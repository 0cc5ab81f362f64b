package admin

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/catalog"
)

// TestTunnelFilters: what a request names is what is asked for, and what it
// misspells is refused, not left out.
func TestTunnelFilters(t *testing.T) {
	t.Parallel()
	type asked struct {
		Filter
		Limit  int
		Over   time.Duration
		DryRun bool
	}
	var got asked
	o := wellOptions(t)
	o.Tunnels = func(f Filter, limit int) ([]Tunnel, error) {
		if got = (asked{Filter: f, Limit: limit}); f.Exchange == "nowhere" {
			return nil, errors.New("there is no exchange")
		}
		return nil, nil
	}
	o.Close = func(f Filter, over time.Duration, dryRun bool) (int, error) {
		got = asked{f, 0, over, dryRun}
		switch f.Exchange {
		case "nowhere":
			return 0, errors.New("there is no exchange")
		case "kraken":
			return 0, nil
		}
		return 1, nil
	}
	a := serve(t, o, "")
	all := Filter{"1-2", "okx", "tokyo-1", catalog.KindWebsocket, 90 * time.Second}
	const tunnels, closing = "GET /api/v1/tunnels", "POST /-/close"
	for _, c := range []struct {
		head, query string
		status      int
		says        string
		want        asked
	}{
		{tunnels, "", 200, "[\n]\n", asked{}},
		{tunnels, "?id=1-2&exchange=OKX&upstream=Tokyo-1&kind=ws&quiet=1m30s&limit=7", 200, "[\n]\n", asked{Filter: all, Limit: 7}},
		{tunnels, "?exchange=&kind=", 200, "[\n]\n", asked{}},
		{tunnels, "?upstreams=a", 400, `"upstreams" is no parameter`, asked{}},
		{tunnels, "?quiet=never", 400, "quiet: ", asked{}},
		{tunnels, "?quiet=-1s", 400, "quiet: ", asked{}},
		{tunnels, "?quiet=8d", 400, "quiet: ", asked{}},
		{tunnels, "?limit=0", 400, "limit: ", asked{}},
		{tunnels, "?kind=ftp", 400, "kind: ", asked{}},
		{tunnels, "?exchange=nowhere", 422, "there is no exchange", asked{Filter: Filter{Exchange: "nowhere"}}},
		{closing, "", 400, "say which tunnels", asked{}},
		{closing, "?over=10", 400, "say which tunnels", asked{}},
		{closing, "?exchange=&upstream=a", 400, "exchange is empty", asked{}},
		{closing, "?upstream=a&upstreams=b", 400, `"upstreams" is no parameter`, asked{}},
		{closing, "?upstream=a&upstream=b", 400, "twice", asked{}},
		{closing, "?upstream=a&limit=1", 400, `"limit" is no parameter`, asked{}},
		{closing, "?exchange=okx&upstream=%zz", 400, "the query cannot be read", asked{}},
		{closing, "?exchange=okx&id=1;2", 400, "the query cannot be read", asked{}},
		{closing, "?exchange=okx&dry_run=%", 400, "the query cannot be read", asked{}},
		{tunnels, "?exchange=okx&upstream=%zz", 400, "the query cannot be read", asked{}},
		{closing, "?exchange=kraken&id=%0A%1B[2J", 404, "kraken with the id ??[2J\n", asked{Filter: Filter{ID: "\n\x1b[2J", Exchange: "kraken"}}},
		{closing, "?upstream=a&over=soon", 400, "over: ", asked{}},
		{closing, "?upstream=A&over=30&dry_run=1", 200, "would close 1 tunnel through a, spread over 30 s\n", asked{Filter: Filter{Upstream: "a"}, Over: 30 * time.Second, DryRun: true}},
		{closing, "?id=1-2&exchange=OKX&upstream=Tokyo-1&kind=ws&quiet=90", 200, "closed 1 tunnel of okx websocket through tokyo-1 quiet for 1 min 30 s with the id 1-2\n", asked{Filter: all}},
		{closing, "?exchange=nowhere", 422, "there is no exchange", asked{Filter: Filter{Exchange: "nowhere"}}},
		{closing, "?exchange=kraken", 404, "no open tunnel matches: kraken\n", asked{Filter: Filter{Exchange: "kraken"}}},
	} {
		got = asked{}
		answer := send(t, a, c.head+c.query+" HTTP/1.1\r\nX-Proxyd: 1")
		if answer.status != c.status || !strings.Contains(answer.body, c.says) {
			t.Errorf("%s%s: %d %s", c.head, c.query, answer.status, answer.body)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s%s asks otherwise: %s", c.head, c.query, diff)
		}
	}
	if answer := send(t, a, "GET /-/close?upstream=a HTTP/1.1\r\nX-Proxyd: 1"); answer.status != 405 {
		t.Errorf("GET: %d", answer.status)
	}
	if answer := send(t, a, "POST /-/close?upstream=a HTTP/1.1"); answer.status != 403 {
		t.Errorf("without X-Proxyd: %d %s", answer.status, answer.body)
	}
}

func TestFilterQueryRoundTrip(t *testing.T) {
	t.Parallel()
	want := Filter{"1-2", "okx", "tokyo-1", catalog.KindHTTP, 90 * time.Second}
	if got, err := filterOf(want.Query()); err != nil || got != want {
		t.Errorf("%v %+v", err, got)
	}
}
