package main

import (
	"encoding/json"
	"strings"
	"testing"

	"proxyd/internal/catalog"
)

func TestExchangesJSON(t *testing.T) {
	out, _, code := call("exchanges", "--format", "json")
	var all []exchangeJSON
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 || len(all) != len(catalog.Embedded().IDs()) {
		t.Fatalf("%v, exit code %d, %d exchanges", err, code, len(all))
	}
	out, _, _ = call("exchanges", "binance_usdm", "--format", "json")
	var one []exchangeJSON
	if err := json.Unmarshal([]byte(out), &one); err != nil || len(one) != 1 || one[0].ID != "binance_futures" || len(one[0].Hosts) == 0 || len(one[0].Family) == 0 {
		t.Errorf("%v\n%s", err, out)
	}
	text, _, _ := call("exchanges", "binance_futures")
	for _, want := range []string{"aliases:", "clients of it may also reach: ", one[0].Hosts[0].Name} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}

func TestExchangesShowsConfiguredRows(t *testing.T) {
	rows := file(t, "exchange,host,kind,env,sources\nmy_venue,api.venue.example,http,live,\n")
	path := file(t, "catalog: "+rows+"\ndefault: direct\n")
	out, errOut, code := call("exchanges", "-c", path, "my_venue")
	if code != 0 || errOut != "" || !strings.Contains(out, "api.venue.example") {
		t.Errorf("exit code %d, %s\n%s", code, errOut, out)
	}
	if out, _, _ := call("exchanges", "-c", path, "alpaca"); !strings.Contains(out, "sessions: closes at times") {
		t.Errorf("alpaca: it does not say that it closes\n%s", out)
	}
	if out, _, _ := call("exchanges", "-c", path, "kalshi", "--format", "json"); !strings.Contains(out, `"sessions": "closes"`) {
		t.Errorf("kalshi:\n%s", out)
	}
	out, errOut, code = call("exchanges", "-c", file(t, "catalog: /no/such.csv\n"), "binance")
	if code != 0 || !strings.Contains(out, "owns the domains: binance.com binance.vision") || !strings.Contains(errOut, "are left out") {
		t.Errorf("exit code %d, %s\n%s", code, errOut, out)
	}
}
