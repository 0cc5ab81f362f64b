package main

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"proxyd/internal/testkit"
)

// sharedHost serves REST and websockets, and leaves by two outbounds in the
// world of these tests.
const sharedHost = "api-pub.bitfinex.com"

// clientPrograms are what clients do with the environment alone.
var clientPrograms = map[string]struct {
	needs, text string
	rest        bool // asks REST too
}{
	"aiohttp": {"aiohttp", `import aiohttp, asyncio
async def main():
  async with aiohttp.ClientSession(trust_env=True) as session:
    (await session.get("https://HOST/")).raise_for_status()
    ws = await session.ws_connect("wss://HOST/ticker?n=1")
    await ws.receive_json()
asyncio.run(main())`, true},
	"aiohttp that asks for no environment, with the shim": {"aiohttp", `import aiohttp, asyncio
async def main():
  async with aiohttp.ClientSession(trust_env=False) as session:
    (await session.get("https://HOST/")).raise_for_status()
    ws = await session.ws_connect("wss://HOST/ticker?n=1")
    await ws.receive_json()
asyncio.run(main())`, true},
	"websockets": {"websockets", `import asyncio, websockets
async def main():
  async with websockets.connect("wss://HOST/ticker?n=1") as ws:
    await ws.recv()
asyncio.run(main())`, false},
}

// The variables that env prints bring the websockets of a host that serves both
// kinds to their own outbound, with and without a password.
func TestClientsByEnvironment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		listener string
		args     []string
	}{
		"no password": {"", nil},
		"a password":  {", auth: {users: [{name: bot, password: pw}]}", []string{"--user", "bot:pw"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for client, program := range clientPrograms {
				t.Run(client, func(t *testing.T) {
					t.Parallel()
					w := newClientWorld(t, c.listener)
					environ := w.environ(t, c.args...)
					if strings.HasSuffix(client, "shim") {
						environ = append(environ, "PYTHONPATH="+shim(t))
					}
					text := strings.ReplaceAll(program.text, "HOST", sharedHost)
					w.run(t, snippetProgram{language: "python", needs: program.needs, text: text}, "", environ...)
					if program.rest != w.asked(w.upstream, sharedHost) {
						t.Errorf("REST by its outbound: %v", !program.rest)
					}
					if !w.asked(w.websocket, sharedHost) {
						t.Error("the websocket left by another outbound")
					}
				})
			}
		})
	}
}

// environ is what env prints, as a process has it.
func (w *clientWorld) environ(t *testing.T, args ...string) (list []string) {
	t.Helper()
	out, errOut, code := call(append([]string{"env", "-c", w.config, "--listener", w.listener}, args...)...)
	if code != 0 {
		t.Fatal(errOut)
	}
	for _, m := range regexp.MustCompile("(?m)^export (.*)$").FindAllStringSubmatch(out, -1) {
		list = append(list, m[1])
	}
	return list
}

// block is the one of docs/clients.md that has a text in it.
func block(t *testing.T, has string) string {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```python\n(.*?)^```$").FindAllStringSubmatch(documents(t)["clients.md"], -1) {
		if strings.Contains(m[1], has) {
			return m[1]
		}
	}
	t.Fatalf("docs/clients.md has no block with %s", has)
	return ""
}

// shim is a directory with the sitecustomize.py of docs/clients.md.
func shim(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sitecustomize.py"), []byte(block(t, "ClientSession.__init__")), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The shim does nothing to a Python without aiohttp.
func TestClientsShimWithoutAiohttp(t *testing.T) {
	t.Parallel()
	dir := shim(t)
	if err := os.WriteFile(filepath.Join(dir, "aiohttp.py"), []byte("raise ImportError('none here')\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &clientWorld{}
	w.run(t, snippetProgram{language: "python", needs: "sys", text: "import sys\nassert 'sitecustomize' in sys.modules, 'not loaded'"}, "", "PYTHONPATH="+dir)
}

// The loop of docs/clients.md outlives refusals of proxyd: websockets by itself
// takes them as fatal.
func TestClientsReconnectAfterRefusals(t *testing.T) {
	t.Parallel()
	w := newClientWorld(t, "")
	var refused atomic.Int32
	w.websocket.SetFault(testkit.On(testkit.AtRequest, func(net.Conn) { // and then close: a 502
		if refused.Add(1) == 2 {
			w.websocket.SetFault(nil)
		}
	}))
	text := strings.NewReplacer("wss://api.venue.example/ws", "wss://"+sharedHost+"/ticker?n=1", "handle(message)", "os._exit(0)").Replace(block(t, "InvalidProxyStatus"))
	w.run(t, snippetProgram{language: "python", needs: "websockets.asyncio.client", text: "import asyncio, os\n" + text}, "", append(w.environ(t), "WEBSOCKETS_BACKOFF_INITIAL_DELAY=0.1", "WEBSOCKETS_BACKOFF_MIN_DELAY=0.1")...)
	if n := refused.Load(); n != 2 {
		t.Errorf("refused %d times", n)
	}
}

// A stream that is closed for silence ends for a real client so that it connects
// again by itself. The key takes effect by a reload, for tunnels that are open too.
func TestClientsReconnectAfterSilence(t *testing.T) {
	t.Parallel()
	w := newClientWorld(t, "")
	text, err := os.ReadFile(w.config)
	if err == nil {
		err = os.WriteFile(w.config, append(text, "silence: {window_seconds: 5, bytes: 1500, action: close}\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.run(t, snippetProgram{language: "python", needs: "websockets.asyncio.client", text: `import asyncio, websockets
from websockets.asyncio.client import connect
async def main():
  opened = 0
  async for ws in connect("wss://` + sharedHost + `/freeze?n=3"):
    opened += 1
    try:
      async for message in ws:
        if opened == 2:
          return
    except websockets.ConnectionClosed:
      continue
asyncio.run(asyncio.wait_for(main(), 120))`}, "", append(w.environ(t), "WEBSOCKETS_BACKOFF_INITIAL_DELAY=0.1", "WEBSOCKETS_BACKOFF_MIN_DELAY=0.1")...)
}

// execPrograms are the unusual ones of those that ask for no proxy: only proxyd exec
// brings them through it. The usual ones are in interop/clients.
var execPrograms = map[string]struct {
	needs, text string
	hosts       []string
}{
	"aiohttp": {"aiohttp", `import aiohttp, asyncio
async def main():
  async with aiohttp.ClientSession(trust_env=False) as session:
    (await session.get("https://api.binance.com/", proxy=None)).raise_for_status()
    ws = await session.ws_connect("wss://stream.binance.com/ticker?n=1")
    await ws.receive_json()
asyncio.run(main())`, []string{restHost, streamHost}},
	"aiohttp that trusts the environment": {"aiohttp", `import aiohttp, asyncio
async def main():
  async with aiohttp.ClientSession(trust_env=True) as session:
    (await session.get("https://api.binance.com/")).raise_for_status()
    ws = await session.ws_connect("wss://stream.binance.com/ticker?n=1")
    await ws.receive_json()
asyncio.run(main())`, []string{restHost, streamHost}},
	"ccxt that asks for no environment": {"ccxt", `import ccxt, os
ex = ccxt.binance({"requests_trust_env": False})
ex.verify = os.environ['SSL_CERT_FILE']
ex.fetch("https://api.binance.com/")`, []string{restHost}},
	"ccxt.async_support": {"ccxt", `import asyncio, os, ccxt.async_support as ccxt
async def main():
  ex = ccxt.binance({"aiohttp_trust_env": False})
  ex.cafile = os.environ['SSL_CERT_FILE']
  try:
    await ex.fetch("https://api.binance.com/")
  finally:
    await ex.close()
asyncio.run(main())`, []string{restHost}},
	"websockets, sync": {"websockets.sync.client", `import ssl
from websockets.sync.client import connect
context = ssl.create_default_context()
def receive(name):
  for last in (False, False, True): # it reads and writes one TLS connection in two threads, and hangs once in a while, without a proxy too
    try:
      with connect("wss://stream.binance.com/ticker?n=1", open_timeout=10, **{name: context}) as ws:
        return ws.recv()
    except TimeoutError:
      if last: raise
try:
  receive("ssl")
except TypeError: # as older versions call it
  receive("ssl_context")`, []string{streamHost}},
	"websockets, legacy client": {"websockets.legacy.client", `import asyncio
from websockets.legacy.client import connect
async def main():
  async with connect("wss://stream.binance.com/ticker?n=1") as ws:
    await ws.recv()
asyncio.run(main())`, []string{streamHost}},
	"cryptofeed": {"cryptofeed", `import asyncio
from cryptofeed.connection import HTTPAsyncConn, HTTPSync, WSAsyncConn
async def main():
  HTTPSync().read("https://api.binance.com/")
  http = HTTPAsyncConn("feed")
  await http.read("https://api.binance.com/")
  await http.write("https://api.binance.com/echo", "x")
  await http.close()
  ws = WSAsyncConn("wss://stream.binance.com/ticker?ms=50", "feed")
  async with ws.connect():
    async for message in ws.read():
      break
asyncio.run(main())`, []string{restHost, streamHost}},
}

// Promise (security): programs of Python that ask for no proxy go through proxyd under proxyd exec, and the default entry of a netrc file is sent to no exchange.
func TestClientsByExec(t *testing.T) {
	t.Parallel()
	for name, program := range execPrograms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newClientWorld(t, "")
			home := t.TempDir()
			if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte("default login trader password geheim-9\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			languages := []string{"python exec"}
			if clientOld != "" && strings.HasPrefix(program.needs, "websockets") {
				languages = append(languages, "python exec, old")
			}
			for _, language := range languages {
				before := len(w.upstream.Asked())
				w.run(t, snippetProgram{language: language, needs: program.needs, text: program.text}, "", "HOME="+home)
				for _, host := range program.hosts {
					if !slices.ContainsFunc(w.upstream.Asked()[before:], func(a testkit.Asked) bool { return a.Host == host }) {
						t.Errorf("%s went past proxyd", host)
					}
				}
			}
			for _, r := range w.exchange.Requests() {
				if a := r.Header.Get("Authorization"); a != "" {
					t.Errorf("%s was sent to %s", a, r.Host)
				}
			}
		})
	}
}
