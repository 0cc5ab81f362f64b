package tunnel

import (
	"net/netip"
	"testing"
	"time"

	"proxyd/internal/testkit"
	"proxyd/internal/upstream"
)

// TestDecideByWhatEnded: connections to several exchanges that end together are the
// upstream's doing, unless one of them was opened after the first had ended.
func TestDecideByWhatEnded(t *testing.T) {
	t.Parallel()
	set, err := upstream.NewSet(testkit.Config(t, "default: {url: 'http://127.0.0.1:1', name: tokyo-1}\n"), nil, func(netip.AddrPort) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	began := time.Now()
	end := func(exchange string, opened time.Duration) *Record {
		return &Record{Opening: Opening{Exchange: exchange, Start: began.Add(opened)}}
	}
	for name, c := range map[string]struct {
		ends   []*Record
		before earlier
		want   string
	}{
		"two exchanges": {[]*Record{end("okx", -time.Minute), end("binance", -time.Second)}, earlier{}, ByUpstream},
		"short ones, which come and go": {
			[]*Record{end("okx", -time.Minute), end("binance", -time.Second), end("binance", time.Millisecond)}, earlier{}, ByExchange,
		},
		"one exchange, and another just before": {
			[]*Record{end("okx", -time.Minute)}, earlier{began.Add(-300 * time.Millisecond), []string{"binance"}}, ByUpstream,
		},
	} {
		h := NewHandler(Options{})
		q := &inquiry{member: set.Upstream("tokyo-1"), began: began, ends: c.ends}
		if got := h.decide(&memberEnds{before: c.before}, q); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
