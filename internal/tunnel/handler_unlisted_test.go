package tunnel_test

import (
	"fmt"
	"strings"
	"testing"

	"proxyd/internal/tunnel"
)

// Promise (routing): a host that only its domain gives to an exchange is
// reported in the log, once.
func TestUnlistedHostIsReportedOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t, "default: direct\nexchanges: {binance: reject, okx: direct}\n")
	ask := func(host string) {
		_, _ = h.Open(t.Context(), tunnel.Request{Protocol: "connect", Host: host, Port: 443})
	}
	for range 3 {
		ask("new-stream.binance.com")
		ask("NEW-STREAM.binance.com.")
		ask("api.binance.com") // listed
		ask("")
	}
	got := h.recorded(tunnel.Unlisted)
	if len(got) != 1 || got[0].Host != "new-stream.binance.com" || got[0].Exchange != "binance" || got[0].Kind.String() != "websocket" ||
		got[0].Text != "taken for binance's by its domain binance.com; list it under exchanges.binance.hosts to settle its kind" {
		t.Errorf("got %+v", got)
	}
	if got[0].Rule != "domain binance.com (host not in the catalogue)" {
		t.Errorf("got rule %q", got[0].Rule)
	}
}

// Whatever clients make up, what is remembered of it is bounded.
func TestUnlistedHostsAreReportedUpToALimit(t *testing.T) {
	t.Parallel()
	h := newHost(t, "default: direct\nexchanges: {binance: reject}\n")
	const most = 1024
	for i := range most + 100 {
		_, _ = h.Open(t.Context(), tunnel.Request{Protocol: "connect", Host: fmt.Sprintf("x%d.binance.com", i), Port: 443})
	}
	got := h.recorded(tunnel.Unlisted)
	if len(got) != most || !strings.HasSuffix(got[most-1].Text, "; no more such hosts are reported until proxyd starts again") {
		t.Errorf("%d are reported, the last: %+v", len(got), got[len(got)-1])
	}
}
