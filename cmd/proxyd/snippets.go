package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// snippets are the shortest forms known to work, each run by TestSnippets.
// {url} stands for the proxy, {ws} for the proxy of websockets, which may carry
// the kind in its user name; {host}, {port} and {auth} are its parts for clients
// that take no URL.
var snippets = map[string]string{
	"curl":             `curl -x {url} https://api.kraken.com/0/public/Time`,
	"requests":         `requests.get(url, proxies={"http": "{url}", "https": "{url}"})`,
	"httpx":            `httpx.Client(proxy="{url}")`,
	"aiohttp":          "await session.get(url, proxy=\"{url}\")\nawait session.ws_connect(wss_url, proxy=\"{ws}\")\n# or: aiohttp.ClientSession(trust_env=True), with HTTPS_PROXY and WSS_PROXY set",
	"websockets":       `websockets.connect(wss_url, proxy="{ws}")  # websockets >= 15`,
	"websocket-client": `websocket.create_connection(wss_url, http_proxy_host="{host}", http_proxy_port={port}, proxy_type="http"{auth})`,
	"cryptofeed":       `Binance(symbols=symbols, channels=channels, callbacks=callbacks, http_proxy="{url}")  # and the variables: eval "$(proxyd env)"; websockets >= 15`,
	"ccxt":             `ccxt.binance({"httpsProxy": "{url}", "wssProxy": "{ws}"})  # also ccxt.async_support and ccxt.pro`,
	"ccxt-js":          `const ex = new ccxt.pro.binance({httpsProxy: '{url}', wssProxy: '{ws}'}); await ex.loadProxyModules()  // npm i http-proxy-agent https-proxy-agent`,
	"freqtrade":        `"exchange": {"ccxt_config": {"httpsProxy": "{url}", "wssProxy": "{ws}"}}`,
	"nautilus":         `proxy_url="{url}"  # in every data and exec client config`,
	"node":             "NODE_USE_ENV_PROXY=1 HTTPS_PROXY={url} HTTP_PROXY={url} node app.js  # Node >= 22.21 or 24",
	"undici":           `setGlobalDispatcher(new ProxyAgent("{url}"))`,
	"ws":               `new WebSocket(wssUrl, {agent: new HttpsProxyAgent("{ws}")})  // npm i https-proxy-agent`,
	"axios":            `axios.create({proxy: false, httpsAgent: new HttpsProxyAgent("{url}")})  // npm i https-proxy-agent`,
	"go":               "proxy, err := url.Parse(\"{url}\")\n// … err\nclient := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}\n// websocket dialers have the same field; all of them read HTTPS_PROXY by themselves",
	"rust":             `reqwest::Client::builder().proxy(reqwest::Proxy::all("{url}")?).build()?`,
	"java":             "java -Dhttps.proxyHost={host} -Dhttps.proxyPort={port} -Dhttp.proxyHost={host} -Dhttp.proxyPort={port} App.java",
	"dotnet":           `new HttpClientHandler { Proxy = new WebProxy("{url}") }; ws.Options.Proxy = new WebProxy("{url}");`,
}

// clientNames are the clients that --for knows.
func clientNames() []string { return slices.Sorted(maps.Keys(snippets)) }

func writeSnippet(out io.Writer, client string, p pointers) error {
	text := snippets[strings.ToLower(client)]
	auth := ""
	if p.websocketUser != "" {
		auth = fmt.Sprintf(", http_proxy_auth=(%q, %q)", p.websocketUser, p.password)
	}
	_, err := fmt.Fprintln(out, strings.NewReplacer("{url}", p.url, "{ws}", p.websocket, "{host}", p.host, "{port}", p.port, "{auth}", auth).Replace(text))
	return err
}
