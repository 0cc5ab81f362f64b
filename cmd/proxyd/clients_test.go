package main

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
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
func TestShimWithoutAiohttp(t *testing.T) {
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
