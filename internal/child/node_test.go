package child

import (
	"cmp"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// packages are as much of ws and undici as the shim changes, laid out as they are.
var packages = map[string]string{
	"node_modules/ws/package.json":     `{"name": "ws", "main": "index.js", "exports": {".": {"import": "./wrapper.mjs", "require": "./index.js"}}}`,
	"node_modules/ws/index.js":         "const WebSocket = require('./lib/websocket')\nWebSocket.WebSocket = WebSocket\nmodule.exports = WebSocket\n",
	"node_modules/ws/wrapper.mjs":      "import WebSocket from './lib/websocket.js'\nexport { WebSocket }\nexport default WebSocket\n",
	"node_modules/ws/lib/websocket.js": "class WebSocket {\n  constructor(address, protocols, options) { this.address = address; this.protocols = protocols; this.options = options }\n  terminate() {}\n}\nWebSocket.OPEN = 1\nmodule.exports = WebSocket\n",
	"node_modules/undici/package.json": `{"name": "undici", "main": "index.js"}`,
	"node_modules/undici/index.js":     "module.exports.Agent = class Agent {}\nmodule.exports.EnvHttpProxyAgent = class EnvHttpProxyAgent { constructor(options) { this.options = options } }\n",
}

// runNode runs a program, app.js or app.mjs, with the shim beside packages.
func runNode(t *testing.T, name, program string, files map[string]string, environ ...string) string {
	t.Helper()
	node, err := exec.LookPath(cmp.Or(os.Getenv("CLIENTS_NODE"), "node"))
	if err != nil {
		testkit.LacksClient(t, "node", "Node")
	}
	base := filepath.Join(t.TempDir(), `it's "here" \ now`)
	if err := os.MkdirAll(base, 0o700); err != nil {
		t.Fatal(err)
	}
	shims, err := writeShims(base)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for path, text := range files {
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	app := filepath.Join(dir, name)
	if err := os.WriteFile(app, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, app) //nolint:gosec // what is under test
	cmd.Env = append(os.Environ(), append([]string{"NODE_OPTIONS=" + NodeOptions(shims), "https_proxy=http://exec-1:x@127.0.0.1:9", "wss_proxy=", "no_proxy=localhost,.corp.example,::1,ported.example:9443"}, environ...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// At its start the shim loads nothing, and a program without these packages is as it was.
func TestNodeShimStartsUnseen(t *testing.T) {
	got := runNode(t, "app.js", `const { execFileSync } = require('child_process')
const env = Object.assign({}, process.env)
delete env.NODE_OPTIONS
const text = 'console.log(process.moduleLoadList.filter(name => /NativeModule (https?|net|tls|url|_http_\w+)$/.test(name)).join(), Object.keys(require.cache).length)'
const run = env => String(execFileSync(process.execPath, ['-e', text], { env }))
console.log(run(process.env) === run(env).replace('0\n', '1\n'), run(env).trim())`, nil)
	if !strings.HasPrefix(got, "true ") {
		t.Error(got)
	}
}

const shownAgents = `
const shown = (...args) => { const ws = new WebSocket(...args); const a = ws.options && ws.options.agent; return a && a.createConnection ? a.protocol : String(a) }
console.log(shown('wss://a.example'), shown('wss://a.example', ['p'], { headers: {} }), shown(new URL('wss://a.example'), { headers: {} }), shown('ws://a.example'))
console.log(shown('wss://x.corp.example'), shown('wss://localhost:1'), shown('wss://[::1]:1'), shown('wss://ported.example:9443'), shown('wss://ported.example'))
console.log(shown('wss://a.example', undefined, { agent: 'own' }), shown('wss+unix:///s'), shown(null, undefined, { agent: 'own' }), shown('nonsense'))
class Own extends WebSocket {}
const own = new Own('wss://a.example')
console.log(own instanceof Own, own instanceof WebSocket, own.options.agent.protocol, WebSocket.OPEN, new WebSocket('wss://a.example', 'p').protocols, new WebSocket('wss://x.corp.example').protocols)
`

const wantAgents = `https: https: https: undefined
undefined undefined undefined undefined https:
own undefined own undefined
true true https: 1 p undefined`

// ws takes an agent from the environment, unless the program passes its own; by
// require, by import, in worker threads and child processes.
func TestNodeShimGivesWebSocketsAnAgent(t *testing.T) {
	for name, program := range map[string]string{
		"app.js":  "const WebSocket = require('ws')" + shownAgents,
		"app.mjs": "import WebSocket from 'ws'" + shownAgents,
		"worker.js": "const { Worker, isMainThread } = require('worker_threads')\nif (isMainThread) new Worker(__filename)\nelse {\nconst WebSocket = require('ws')" +
			shownAgents + "}",
		"fork.js": "if (!process.send) require('child_process').fork(__filename)\nelse {\nconst WebSocket = require('ws')" + shownAgents + "}",
	} {
		t.Run(name, func(t *testing.T) {
			if got := runNode(t, name, program, packages); got != wantAgents {
				t.Errorf("%s", got)
			}
		})
	}
}

// undici's Agent becomes one that reads the environment, unless it connects by itself.
func TestNodeShimChangesAgentsOfUndici(t *testing.T) {
	const program = `
class Own extends Agent {}
const name = (...args) => new Agent(...args).constructor.name
console.log(name(), name({ connect() {} }), name({ factory() {} }), new Own().constructor.name, JSON.stringify(new Agent({ pipelining: 1, connect: { rejectUnauthorized: false } }).options))`
	const want = `EnvHttpProxyAgent Agent Agent Own {"pipelining":1,"connect":{"rejectUnauthorized":false},"requestTls":{"rejectUnauthorized":false}}`
	for name, program := range map[string]string{"app.js": "const { Agent } = require('undici')" + program, "app.mjs": "import { Agent } from 'undici'" + program} {
		if got := runNode(t, name, program, packages); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A package that is not as expected is reported, and works.
func TestNodeShimReportsUnlikePackages(t *testing.T) {
	got := runNode(t, "app.js", "console.log(require('ws').unlike, require('undici').unlike)", map[string]string{
		"node_modules/ws/lib/websocket.js": "", "node_modules/ws/index.js": "require('./lib/websocket.js')\nmodule.exports = { unlike: true }\n", "node_modules/undici/index.js": "module.exports = { unlike: true }\n"})
	if strings.Count(got, "could not be made to use the proxy, and may connect directly: not as expected") != 2 || !strings.HasSuffix(got, "true true") {
		t.Error(got)
	}
}

// The agent opens a tunnel with the user of the environment, and its error has the
// proxy's reason.
func TestNodeShimOpensTunnels(t *testing.T) {
	x := testkit.NewExchange(t)
	p := testkit.NewProxy(t, testkit.ProxyOptions{User: "exec-1", Password: "x", Hosts: map[string]string{"*": x.TLS}})
	program := `const WebSocket = require('ws')
const { agent } = new WebSocket('wss://api.venue.example:9443/').options
require('https').get({ host: 'api.venue.example', port: 9443, path: '/', agent }, r => { console.log(r.statusCode); r.resume() }).on('error', e => console.log(e.message))`
	environ := []string{"https_proxy=" + p.URL(), "NODE_EXTRA_CA_CERTS=" + x.CA.File}
	if got := runNode(t, "app.js", program, packages, environ...); got != "200" {
		t.Error(got)
	}
	asked := p.Asked()
	if len(asked) != 1 || asked[0].Host != "api.venue.example" || asked[0].Port != "9443" || asked[0].User != "exec-1" || asked[0].Method != "CONNECT" {
		t.Errorf("%+v", asked)
	}
	p.SetFault(testkit.On(testkit.AtRequest, testkit.Answer("502 proxyd: upstream_refused: none", "text")))
	if got := runNode(t, "app.js", program, packages, environ...); got != "the proxy refused the connection: 502 proxyd: upstream_refused: none" {
		t.Error(got)
	}
	p.SetFault(testkit.On(testkit.AtRequest, func(c net.Conn) { _ = c.Close() }))
	if got := runNode(t, "app.js", program, packages, environ...); got != "socket hang up" {
		t.Error(got)
	}
}
