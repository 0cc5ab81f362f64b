package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// Where TestSnippets finds the packages that clients come in. interop/clients.sh
// installs them and sets CLIENTS_LANGUAGES, so that none of these is left out; without
// it the tests run what this machine has, and skip the others by name.
var (
	clientPython = cmp.Or(os.Getenv("CLIENTS_PYTHON"), "python3")
	clientFeed   = cmp.Or(os.Getenv("CLIENTS_CRYPTOFEED"), clientPython) // cryptofeed wants another aiohttp than ccxt
	clientOld    = os.Getenv("CLIENTS_OLD")                              // with websockets before 15
	clientNode   = cmp.Or(os.Getenv("CLIENTS_NODE"), "node")
)

// What the programs around the snippets ask for.
const (
	restHost, streamHost = "api.binance.com", "stream.binance.com"
	restURL, streamURL   = "https://" + restHost + "/", "wss://" + streamHost + "/ticker?n=1"
)

// clientWorld is an exchange that every name leads to, through an upstream and
// a proxyd of its own.
type clientWorld struct {
	exchange     *testkit.Exchange
	upstream     *testkit.Proxy // of all
	websocket    *testkit.Proxy // of bitfinex's websockets alone
	config, cert string
	listener     string
}

func newClientWorld(t *testing.T, listener string) *clientWorld {
	t.Helper()
	x := testkit.NewExchange(t)
	hosts := map[string]string{"*": x.TLS}
	w := &clientWorld{exchange: x, upstream: testkit.NewProxy(t, testkit.ProxyOptions{Hosts: hosts}), websocket: testkit.NewProxy(t, testkit.ProxyOptions{Hosts: hosts})}
	w.cert = x.CA.File
	w.config = file(t, fmt.Sprintf("listen: {address: \"127.0.0.1:0\"%s}\nadmin: \"\"\ndefault: %s\nexchanges: {bitfinex: {http: %s, websocket: %s}}\n",
		listener, w.upstream.URL(), w.upstream.URL(), w.websocket.URL()))
	p := start(t, nil, "run", "-c", w.config)
	p.stuck.Reset(5 * time.Minute) // other people's programs take their time
	w.listener = regexp.MustCompile(`"listening","address":"([^"]+)"`).FindStringSubmatch(p.until(t, `"ready"`))[1]
	return w
}

// snippetProgram is a program around a snippet.
type snippetProgram struct {
	language string // its first word is one of CLIENTS_LANGUAGES
	needs    string // the package, "" for none
	text     string // SNIPPET stands for it
	hosts    []string
}

var snippetPrograms = map[string]snippetProgram{
	"curl":     {"curl", "", "SNIPPET", []string{"api.kraken.com"}},
	"requests": {"python", "requests", "import requests\nurl = URL\nSNIPPET.raise_for_status()", []string{restHost}},
	"httpx":    {"python", "httpx", "import httpx\nclient = SNIPPET\nclient.get(URL).raise_for_status()", []string{restHost}},
	"aiohttp": {"python", "aiohttp", "import aiohttp, asyncio\nasync def main():\n  url, wss_url = URL, STREAM\n  async with aiohttp.ClientSession() as session:\nINDENTED\nasyncio.run(main())",
		[]string{restHost, streamHost}},
	"websockets":       {"python", "websockets", "import asyncio, websockets\nasync def main():\n  wss_url = STREAM\n  ws = await SNIPPET\n  await ws.recv()\nasyncio.run(main())", []string{streamHost}},
	"websocket-client": {"python", "websocket", "import websocket\nwss_url = STREAM\nws = SNIPPET\nws.recv()", []string{streamHost}},
	"ccxt": {"python", "ccxt", "import asyncio, os, ccxt, ccxt.pro\nex = SNIPPET\nex.verify = ex.validateServerSsl = os.environ['SSL_CERT_FILE']\nex.fetch(URL)\nasync def main():\n  ex = SNIPPET_PRO\n  ex.cafile = os.environ['SSL_CERT_FILE']\n  try:\n    await ex.fetch(URL)\n    client = ex.client(STREAM)\n    await client.connect(ex.session, 0)\n  finally:\n    await ex.close()\nex = None\nasyncio.run(main())",
		[]string{restHost, streamHost}},
	"freqtrade": {"python", "ccxt", "import asyncio, os, ccxt.pro\nconfig = {SNIPPET}\nasync def main():\n  ex = ccxt.pro.binance(config['exchange']['ccxt_config'])\n  ex.cafile = os.environ['SSL_CERT_FILE']\n  try:\n    await ex.fetch(URL)\n    client = ex.client(STREAM)\n    await client.connect(ex.session, 0)\n  finally:\n    await ex.close()\nasyncio.run(main())",
		[]string{restHost, streamHost}},
	"cryptofeed": {"python", "cryptofeed", "import asyncio\nfrom cryptofeed.exchanges import Binance\nfrom cryptofeed.symbols import Symbols\nSymbols.set('BINANCE', {'BTC-USDT': 'BTCUSDT'}, {}) # else it asks for them\nsymbols, channels, callbacks = ['BTC-USDT'], ['trades'], {'trades': print}\nfeed = SNIPPET\nasync def main():\n  await feed.http_conn.read(URL)\n  await feed.http_conn.close()\nasyncio.run(main())",
		[]string{restHost}},
	"ccxt-js": {"node", "ccxt", "const module_ = require('ccxt'), ccxt = module_.pro ? module_ : module_.default;\n(async () => {\nSNIPPET\nawait ex.fetch(URL);\nconst client = ex.client(STREAM);\nawait client.connect();\nprocess.exit(0);\n})().catch(e => { console.error(e); process.exit(1) })", []string{restHost, streamHost}},
	"node":    {"node 22.21", "", "fetch(URL).then(r => r.text()).then(() => new Promise((ok, no) => { const w = new WebSocket(STREAM); w.onmessage = ok; w.onerror = no; })).then(() => process.exit(0), e => { console.error(e); process.exit(1) })", []string{restHost, streamHost}},
	"undici":  {"node", "undici", "const {setGlobalDispatcher, ProxyAgent, fetch} = require('undici');\nSNIPPET;\nfetch(URL).then(r => r.text()).then(() => process.exit(0), e => { console.error(e); process.exit(1) })", []string{restHost}},
	"ws":      {"node", "ws", "const WebSocket = require('ws'), wssUrl = STREAM;\n(async () => {\nconst {HttpsProxyAgent} = await import(require.resolve('https-proxy-agent'));\nconst w = SNIPPET\nw.on('message', () => process.exit(0));\nw.on('error', e => { console.error(e); process.exit(1) });\n})()", []string{streamHost}},
	"axios":   {"node", "axios", "(async () => {\nconst {HttpsProxyAgent} = await import(require.resolve('https-proxy-agent'));\nconst axios = require('axios');\nconst client = SNIPPET\nawait client.get(URL);\n})().catch(e => { console.error(e); process.exit(1) })", []string{restHost}},
	"go":      {"go", "", "package main\n\nimport (\n\t\"net/http\"\n\t\"net/url\"\n)\n\nfunc main() {\nSNIPPET\n\tif err != nil {\n\t\tpanic(err)\n\t}\n\tif _, err := client.Get(URL); err != nil {\n\t\tpanic(err)\n\t}\n}\n", []string{restHost}},
	"rust":    {"rust", "", "#[tokio::main]\nasync fn main() -> Result<(), Box<dyn std::error::Error>> {\n    let client = SNIPPET;\n    client.get(URL).send().await?.error_for_status()?;\n    Ok(())\n}\n", []string{restHost}},
	"java": {"java", "", `import java.net.URI; import java.net.http.*; import javax.net.ssl.*; import java.security.cert.X509Certificate; import java.net.Socket;
class App {
	public static void main(String[] a) throws Exception {
		SSLContext c = SSLContext.getInstance("TLS");
		c.init(null, new TrustManager[]{new X509ExtendedTrustManager() {
			public void checkClientTrusted(X509Certificate[] x, String s) {} public void checkServerTrusted(X509Certificate[] x, String s) {}
			public void checkClientTrusted(X509Certificate[] x, String s, Socket k) {} public void checkServerTrusted(X509Certificate[] x, String s, Socket k) {}
			public void checkClientTrusted(X509Certificate[] x, String s, SSLEngine e) {} public void checkServerTrusted(X509Certificate[] x, String s, SSLEngine e) {}
			public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
		}}, null);
		HttpClient client = HttpClient.newBuilder().sslContext(c).build();
		client.send(HttpRequest.newBuilder(URI.create(URL)).build(), HttpResponse.BodyHandlers.ofString());
		client.newWebSocketBuilder().buildAsync(URI.create(STREAM), new WebSocket.Listener() {}).join();
		System.exit(0);
	}
}`, []string{restHost, streamHost}},
	"dotnet":   {"dotnet", "", "", nil},
	"nautilus": {"python", "nautilus_trader", "", nil},
}

// snippetsNotRun are those whose programs are too large to install for a test.
var snippetsNotRun = []string{"dotnet", "nautilus"}

// Every snippet of env --for is a program that reaches an exchange through
// proxyd.
func TestSnippets(t *testing.T) {
	t.Parallel()
	for _, client := range clientNames() {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			program, ok := snippetPrograms[client]
			if !ok {
				t.Fatal("no program runs this snippet")
			}
			if slices.Contains(snippetsNotRun, client) {
				t.Skipf("%s is not run: its program is too large to install", client)
			}
			w := newClientWorld(t, "")
			snippet, _, code := call("env", "-c", w.config, "--listener", w.listener, "--for", client)
			if code != 0 {
				t.Fatalf("exit code %d", code)
			}
			w.run(t, program, snippet)
			for _, host := range program.hosts {
				if !w.asked(w.upstream, host) {
					t.Errorf("%s went past proxyd", host)
				}
			}
		})
	}
}

// asked reports whether a proxy was asked for a host.
func (w *clientWorld) asked(p *testkit.Proxy, host string) bool {
	return slices.ContainsFunc(p.Asked(), func(a testkit.Asked) bool { return a.Host == host })
}

// run puts a snippet into its program and runs it.
func (w *clientWorld) run(t *testing.T, p snippetProgram, snippet string, environ ...string) {
	t.Helper()
	snippet = strings.TrimSpace(snippet)
	comment := regexp.MustCompile(`\s+(#|//) .*$`)
	last := comment.ReplaceAllString(snippet, "") // what can stand within a line
	if strings.Contains(snippet, "\n") {
		last = snippet
	}
	text := strings.NewReplacer("SNIPPET_PRO", strings.Replace(last, "ccxt.binance", "ccxt.pro.binance", 1), "SNIPPET", last,
		"INDENTED", "    "+strings.ReplaceAll(snippet, "\n", "\n    "), "STREAM", `"`+streamURL+`"`, "URL", `"`+restURL+`"`).Replace(p.text)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	language, _, _ := strings.Cut(p.language, " ")
	tool := func(name string) string { return tool(t, language, name) }
	needs := func(what, program string, args ...string) {
		if err := exec.Command(program, args...).Run(); err != nil { //nolint:gosec // of this file
			testkit.LacksClient(t, language, what)
		}
	}
	var cmd *exec.Cmd
	switch p.language {
	case "curl":
		tool("curl")
		tool("sh")
		cmd = exec.Command("sh", "-c", text) //nolint:gosec // what is under test
	case "python", "python exec", "python exec, old":
		python := clientPython
		switch {
		case p.needs == "cryptofeed":
			python = clientFeed
		case p.language == "python exec, old":
			python = clientOld
		}
		needs(p.needs, tool(python), "-c", "import "+p.needs)
		cmd = exec.Command(python, write("app.py", text)) //nolint:gosec // what is under test
		if p.language != "python" {
			cmd = exec.Command(os.Args[0], "exec", "-c", w.config, "--", python, write("app.py", text)) //nolint:gosec // what is under test
			environ = append(environ, asProxyd+"=1")
		}
	case "node":
		needs(p.needs, tool(clientNode), "-e", fmt.Sprintf("require.resolve(%q)", p.needs))
		cmd = exec.Command(clientNode, write("app.js", text)) //nolint:gosec // what is under test
	case "node 22.21":
		needs("Node of 22.21 or later", tool(clientNode), "-e", "const [a, b] = process.versions.node.split('.').map(Number); if (a < 22 || (a == 22 && b < 21)) process.exit(1)")
		write("app.js", text)
		cmd = exec.Command("sh", "-c", strings.Replace(last, " node ", " "+clientNode+" ", 1)) //nolint:gosec // what is under test
	case "go":
		cmd = exec.Command(tool("go"), "run", write("main.go", text)) //nolint:gosec // what is under test
	case "java":
		tool("java")
		write("App.java", text)
		cmd = exec.Command("sh", "-c", last) //nolint:gosec // what is under test
	case "rust":
		const crate = "../../interop/clients/rust/"
		cargo, built := tool("cargo"), os.Getenv("CLIENTS_DIR")
		if built == "" {
			testkit.LacksClient(t, language, "CLIENTS_DIR, in which crates stay built")
		}
		needs("the crates of interop/clients/rust", cargo, "fetch", "--offline", "--locked", "--manifest-path", crate+"Cargo.toml")
		for _, name := range []string{"Cargo.toml", "Cargo.lock"} {
			pins, err := os.ReadFile(crate + name)
			if err != nil {
				t.Fatal(err)
			}
			write(name, strings.ReplaceAll(string(pins), `name = "clients"`, `name = "snippet"`)) // the other one is built there too
		}
		write("src/main.rs", text)
		cmd = exec.Command(cargo, "run", "--offline", "--quiet", "--target-dir", filepath.Join(built, "rust-matrix", "target")) //nolint:gosec // what is under test
	}
	cmd.Dir = dir
	for _, v := range os.Environ() { // no proxy but the snippet's
		if name, _, _ := strings.Cut(v, "="); !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+w.cert, "REQUESTS_CA_BUNDLE="+w.cert, "CURL_CA_BUNDLE="+w.cert, "NODE_EXTRA_CA_CERTS="+w.cert, "GOFLAGS=", "GOPROXY=off")
	cmd.Env = append(cmd.Env, environ...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, text, out)
	}
}

// tool finds a program that clients in a language need.
func tool(t *testing.T, language, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		testkit.LacksClient(t, language, name)
	}
	return path
}

// The snippet for freqtrade is what its file takes.
func TestFreqtradeSnippetIsJSON(t *testing.T) {
	out, _, _ := call("env", "-c", file(t, "default: direct\n"), "--for", "freqtrade")
	if !json.Valid([]byte("{" + out + "}")) {
		t.Error(out)
	}
}
