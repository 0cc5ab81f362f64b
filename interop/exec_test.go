//go:build interop

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// feeds are the programs of users, as their libraries' manuals have them.
var feeds = map[string]struct{ python, text, rest, stream string }{
	"cryptofeed": {"CLIENTS_CRYPTOFEED", `import asyncio, os
from cryptofeed import FeedHandler
from cryptofeed.defines import TRADES
from cryptofeed.exchanges import Binance

seen = 0

async def trade(t, receipt_timestamp):
    global seen
    seen += 1
    if seen == 3:
        print("three trades", flush=True)
        os._exit(0)

f = FeedHandler()
asyncio.set_event_loop(asyncio.new_event_loop())  # uvloop makes none by itself any more
f.add_feed(Binance(symbols=['BTC-USDT'], channels=[TRADES], callbacks={TRADES: trade}))
f.run()
`, "api.binance.com /api/v3/exchangeInfo", "stream.binance.com:9443 /stream"},
	"ccxt.pro": {"CLIENTS_PYTHON", `import asyncio, os
import ccxt.pro

async def main():
    exchange = ccxt.pro.binance({'cafile': os.environ['SSL_CERT_FILE']})
    seen = 0
    while seen < 3:
        seen += len(await exchange.watch_trades('BTC/USDT'))
    print("three trades", flush=True)
    await exchange.close()

asyncio.run(main())
`, "api.binance.com /api/v3/exchangeInfo", "stream.binance.com:9443 /ws/0"},
	"ccxt": {"CLIENTS_PYTHON", `import os
import ccxt

exchange = ccxt.binance()
exchange.verify = os.environ['SSL_CERT_FILE']
assert 'BTC/USDT' in exchange.load_markets()
print("three trades")
`, "api.binance.com /api/v3/exchangeInfo", ""},
}

// Promise (security): unmodified cryptofeed and ccxt programs reach their exchanges through the upstreams alone under proxyd exec; no name is looked up, and nothing from ~/.netrc is sent.
func TestExec(t *testing.T) {
	if os.Getenv("CLIENTS_PYTHON") == "" {
		t.Skip("run by interop/clients.sh")
	}
	detectNames(t)
	leaks, exchange := newDetector(t), newBinance(t)
	rest := testkit.NewProxy(t, testkit.ProxyOptions{User: "feed", Password: "pw-1", Hosts: map[string]string{"*": exchange.addr}})
	stream := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": exchange.addr}})
	config := file(t, "exec.yaml", fmt.Sprintf("admin: \"\"\ndefault: reject\nexchanges: {binance: {http: %q, websocket: %q}, binance_futures: {http: %q}, binance_delivery: {http: %q}}\n",
		rest.URL(), stream.URL(), rest.URL(), rest.URL()))
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte("default login trader password geheim-9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, feed := range feeds {
		script := file(t, "feed.py", feed.text)
		program := func(args ...string) *exec.Cmd {
			cmd := exec.CommandContext(t.Context(), "timeout", append([]string{"60"}, append(args, os.Getenv(feed.python), script)...)...)
			cmd.Dir = dir // cryptofeed writes a log there
			cmd.Env = append(os.Environ(), "HOME="+home, "SSL_CERT_FILE="+exchange.ca, "REQUESTS_CA_BUNDLE="+exchange.ca)
			return cmd
		}
		run(t, name+" under exec", func(t *testing.T) {
			before := len(rest.Asked()) + len(stream.Asked())
			out, err := program(os.Getenv("INTEROP_PROXYD"), "exec", "-c", config, "--").CombinedOutput()
			asked, logins := exchange.taken()
			text := string(out)
			if err != nil || !strings.Contains(text, "three trades") {
				t.Errorf("%v\n%s", err, text)
			}
			for _, want := range []string{feed.rest, feed.stream} {
				if want != "" && !strings.Contains(strings.Join(asked, "\n")+"\n", want+"\n") {
					t.Errorf("the exchange was not asked for %s: %q", want, asked)
				}
			}
			if len(rest.Asked())+len(stream.Asked()) == before || !strings.Contains(text, "through "+rest.Addr) || feed.stream != "" && !strings.Contains(text, "through "+stream.Addr) {
				t.Errorf("not through the upstreams:\n%s", text)
			}
			if l := leaks.taken(); len(l) > 0 {
				t.Errorf("past proxyd: %q", l)
			}
			if len(logins) > 0 {
				t.Errorf("sent from ~/.netrc: %q", logins)
			}
		})
		// The detector would have seen them.
		run(t, name+" without exec is seen", func(t *testing.T) {
			cmd := program()
			cmd.Args[1] = "10"
			_, _ = cmd.CombinedOutput()
			if len(leaks.taken()) == 0 {
				t.Error("the detector has seen nothing")
			}
		})
	}
}
