package config_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

// The most specific entry says when a tunnel is silent; auto at the top alone is
// off where markets close.
func TestMostSpecificSilenceApplies(t *testing.T) {
	c := load(t, `
silence: auto
exchanges:
  okx: {silence: off}
  binance: {http: direct, websocket: {url: direct, silence: {window_seconds: 60, bytes: 10, action: close}}, silence: off}
  kalshi: {silence: auto}
`)
	fixed := config.Silence{Mode: config.SilenceFixed, Window: time.Minute, Bytes: 10, Close: true}
	for _, want := range []struct {
		exchange string
		kind     catalog.Kind
		silence  config.Silence
	}{
		{"okx", catalog.KindWebsocket, config.Silence{Mode: config.SilenceOff}},
		{"binance", catalog.KindWebsocket, fixed},
		{"binance", catalog.KindHTTP, config.Silence{Mode: config.SilenceOff}},
		{"kraken", catalog.KindWebsocket, config.Silence{Mode: config.SilenceAuto}},
		{"", catalog.KindHTTP, config.Silence{Mode: config.SilenceAuto}},
		{"alpaca", catalog.KindWebsocket, config.Silence{Mode: config.SilenceOff}},
		{"kalshi", catalog.KindWebsocket, config.Silence{Mode: config.SilenceAuto}},
	} {
		if got := c.SilenceOf(want.exchange, want.kind); got != want.silence {
			t.Errorf("%s %s: %v, want %v", want.exchange, want.kind, got, want.silence)
		}
	}
	if c = load(t, "silence: {window_seconds: 60, bytes: 10}\n"); c.SilenceOf("alpaca", catalog.KindWebsocket).Mode != config.SilenceFixed {
		t.Error("a window at the top does not hold for an exchange that closes")
	}
}

// A reload names what has changed of silence.
func TestDiffOfSilence(t *testing.T) {
	a := load(t, "exchanges: {okx: {url: direct}, kraken: {silence: off}}\n")
	b := load(t, "silence: off\nexchanges: {okx: {http: direct, websocket: {url: direct, silence: {window_seconds: 5, bytes: 7, action: close}}}, kraken: {}}\n")
	want := []string{
		"~ exchanges.okx.websocket.silence: not set → 7 bytes in 5 s, close",
		"~ exchanges.kraken.silence: off → not set",
		"~ silence: auto → off",
	}
	if diff := cmp.Diff(want, config.Diff(a, b)); diff != "" {
		t.Error(diff)
	}
}
