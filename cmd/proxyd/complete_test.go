package main

import (
	"strings"
	"testing"
)

func TestCompletionOfEveryShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, _, code := call("completion", shell); code != 0 || !strings.Contains(out, "proxyd") {
			t.Errorf("%s: exit code %d", shell, code)
		}
	}
	for _, args := range [][]string{{"completion"}, {"completion", "tcsh"}} {
		if _, errOut, code := call(args...); code != 2 || !strings.Contains(errOut, "powershell") {
			t.Errorf("%v: exit code %d: %s", args, code, errOut)
		}
	}
}

// Flags and arguments are completed with what they take.
func TestCompletionOfValues(t *testing.T) {
	path := file(t, "listen: 127.0.0.1:9999\npools: {asia: {proxies: [{name: tokyo-1, url: \"http://h.example:1\"}]}}\nexchanges: {binance: asia}\n")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"import", "--from", "c"}, "clash\n"},
		{[]string{"probe", "binance_f"}, "binance_futures\n"},
		{[]string{"probe", "okx", "binance_f"}, "binance_futures\n"},
		{[]string{"exchanges", "krak"}, "kraken\n"},
		{[]string{"drain", "-c", path, "to"}, "tokyo-1\n"},
		{[]string{"resume", "-c", path, "tokyo-1", "krak"}, "kraken\n"},
		{[]string{"route", "stream.binance.c"}, "stream.binance.com\n"},
		{[]string{"env", "--for", "ccxt"}, "ccxt-js\n"},
		{[]string{"env", "--shell", "po"}, "powershell\n"},
		{[]string{"env", "-c", path, "--listener", ""}, "127.0.0.1:9999\n"},
		{[]string{"exec", "--daemon", "o"}, "own\n"},
		{[]string{"check", "--format", "js"}, "json\n"},
		{[]string{"route", "--kind", "w"}, "websocket\n"},
		{[]string{"close", "--exchange", "krak"}, "kraken\n"},
		{[]string{"tunnels", "-c", path, "--upstream", "to"}, "tokyo-1\n"},
		{[]string{"close", "--kind", "w"}, "websocket\n"},
		{[]string{"events", "--type", "exchange_l"}, "exchange_lost\n"},
		{[]string{"events", "--severity", "w"}, "warn\n"},
	} {
		if out, _, code := call(append([]string{"__complete"}, c.args...)...); code != 0 || !strings.Contains("\n"+out, "\n"+c.want) {
			t.Errorf("%v: exit code %d, want %q in\n%s", c.args, code, c.want, out)
		}
	}
}
