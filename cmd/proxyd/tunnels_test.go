package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/catalog"
)

func someTunnels() []admin.Tunnel {
	long := strings.Repeat("x", 60)
	return []admin.Tunnel{
		{ID: "5f3a91-2k", Client: "127.0.0.1:54321", Exchange: "binance_futures", Kind: "websocket", Upstream: "tokyo-1", Quiet: 3725, Silent: true, Started: time.Now().Add(-26 * time.Hour)},
		{ID: "5f3a91-zzzz9", Client: "[2001:db8::1]:54321", Host: long, Kind: "websocket", Upstream: long, Quiet: 59, ClientStalled: true, Started: time.Now(), Down: admin.Rate{Second: 123456789}},
		{ID: "5f3a91-3", User: "bot-1", Exchange: "okx", Kind: "http", Upstream: "direct", Started: time.Now().Add(-time.Minute), Down: admin.Rate{Second: 1234}},
	}
}

func TestTunnelsTable(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	writeTunnels(&text, someTunnels(), time.Now())
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "QUIET") || strings.Join(strings.Fields(lines[1]), " ") != "1h2m silent binance_futures websocket tokyo-1 1d2h 0 B 5f3a91-2k :54321" {
		t.Errorf("got\n%s", text.String())
	}
	for _, line := range lines {
		if len(line) > 100 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	for _, want := range []string{"stalled", "123 MB", "1.2 kB", "bot-1", "5f3a91-zzzz9"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestTunnelsAndClosePassTheirFiltersOn(t *testing.T) {
	var asked admin.Filter
	var spread time.Duration
	_, path := running(t, "127.0.0.1:0", func(o *admin.Options) {
		o.Status = func() admin.Status {
			s := well()
			s.Older = []admin.Process{{Generation: 1, PID: 41, Tunnels: 9}, {Generation: 2, PID: 43}}
			return s
		}
		o.Tunnels = func(f admin.Filter, _ int) ([]admin.Tunnel, error) {
			if asked = f; f.Upstream == "osaka" {
				return nil, errors.New(`there is no upstream "osaka"; there are: direct, tokyo-1`)
			}
			return someTunnels(), nil
		}
		o.Close = func(f admin.Filter, over time.Duration, dryRun bool) (int, error) {
			if asked, spread = f, over; dryRun {
				return 3, nil
			}
			switch f.Upstream {
			case "osaka":
				return 0, errors.New(`there is no upstream "osaka"; there are: direct, tokyo-1`)
			case "direct":
				return 0, nil
			}
			return 40, nil
		}
	})
	okx := admin.Filter{Exchange: "okx", Upstream: "tokyo-1", Kind: catalog.KindWebsocket, Quiet: 30 * time.Second}
	for _, c := range []struct {
		args string
		code int
		says string
		want admin.Filter
		over time.Duration
	}{
		{"tunnels", 0, "QUIET", admin.Filter{}, 0},
		{"tunnels --exchange OKX --upstream Tokyo-1 --kind ws --quiet 30s", 0, "5f3a91-2k", okx, 0},
		{"tunnels --upstream osaka", 1, "proxyd: there is no upstream \"osaka\"; there are: direct, tokyo-1\n", admin.Filter{Upstream: "osaka"}, 0},
		{"tunnels --quiet soon", 2, "30s", admin.Filter{}, 0},
		{"tunnels --kind fast", 2, "http, websocket", admin.Filter{}, 0},
		{"tunnels --exchange= --upstream a", 2, "--exchange is empty", admin.Filter{}, 0},
		{"tunnels --format xml", 2, "json", admin.Filter{}, 0},
		{"close", 2, "say which tunnels", admin.Filter{}, 0},
		{"close --over 10", 2, "say which tunnels", admin.Filter{}, 0},
		{"close tokyo-1", 2, "", admin.Filter{}, 0},
		{"close --exchange okx --upstream= ", 2, "--upstream is empty", admin.Filter{}, 0},
		{"close --exchange okx --over -1", 2, "--over", admin.Filter{}, 0},
		{"close --exchange OKX --kind websocket --upstream Tokyo-1 --quiet 30", 0, "closed 40 tunnels of okx websocket through tokyo-1 quiet for 30 s\n", okx, 0},
		{"close --exchange okx --over 60", 0, "closing 40 tunnels of okx, spread over 1 min 0 s\n", admin.Filter{Exchange: "okx"}, time.Minute},
		{"close --upstream tokyo-1 --over 0", 0, "closed 40 tunnels through tokyo-1\n", admin.Filter{Upstream: "tokyo-1"}, 0},
		{"close --id 5f3a91-2k", 0, "closed 40 tunnels with the id 5f3a91-2k\n", admin.Filter{ID: "5f3a91-2k"}, 0},
		{"close --exchange none --dry-run", 0, ":54321\n", admin.Filter{Exchange: "none"}, 0},
		{"close --exchange none --dry-run", 0, "would close 3 tunnels of no exchange\n", admin.Filter{Exchange: "none"}, 0},
		{"close --upstream osaka", 1, "proxyd: there is no upstream \"osaka\"; there are: direct, tokyo-1\n", admin.Filter{Upstream: "osaka"}, 0},
		{"close --upstream direct", 1, "proxyd: no open tunnel matches: through direct\n", admin.Filter{Upstream: "direct"}, 0},
	} {
		asked, spread = admin.Filter{}, 0
		out, errOut, code := call(append(strings.Fields(c.args), "-c", path)...)
		if code != c.code || !strings.Contains(out+errOut, c.says) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s%s", c.args, code, c.code, c.says, out, errOut)
		}
		if asked != c.want || spread != c.over {
			t.Errorf("%s asks for %+v, spread over %s", c.args, asked, spread)
		}
	}
	for _, args := range []string{"tunnels", "close --id x", "close --upstream direct"} {
		if _, errOut, _ := call(append(strings.Fields(args), "-c", path)...); !strings.Contains(errOut, "not listed, and not to be closed here: 9 of process 41, generation 1") {
			t.Errorf("%s: %s", args, errOut)
		}
	}
	out, _, code := call("tunnels", "--format", "json", "-c", path)
	var list []admin.Tunnel
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list) != 3 || list[0].ID != "5f3a91-2k" {
		t.Errorf("%v, exit code %d: %s", err, code, out)
	}
}
