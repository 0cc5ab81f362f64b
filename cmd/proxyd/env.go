package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"proxyd/internal/config"
)

// noProxy are the names that clients must keep to themselves: this machine and
// the clouds' metadata services.
const noProxy = "localhost,127.0.0.1,::1,169.254.169.254,metadata.google.internal"

// proxyVariables point clients here; several libraries read only one of them,
// and some only one case.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "WS_PROXY", "WSS_PROXY", "ALL_PROXY"}

func envCommand() *cobra.Command {
	var shell, client string
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the variables that point clients at proxyd, or one client's snippet",
		Long: `Print the variables that point clients at proxyd, in both cases, with NO_PROXY
for this machine and the clouds' metadata services; or, with --for, the shortest
working snippet for one client library.`,
		Example: `  eval "$(proxyd env)"
  proxyd env --shell fish | source
  docker run --network host $(proxyd env --shell docker) my-feed
  proxyd env --for ccxt`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.LoadWith(configPath(cmd), os.Environ(), config.Options{NoSecrets: true})
			if err != nil {
				return err
			}
			url, err := proxyURL(c.Listen[0])
			if err != nil {
				return err
			}
			if client != "" {
				return writeSnippet(cmd.OutOrStdout(), client, url)
			}
			if err := oneOf("shell", shell, "sh", "fish", "powershell", "docker"); err != nil {
				return err
			}
			if len(c.Listen[0].Users) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "this listener wants a password: put NAME:PASSWORD@ before %s\n", dialable(c.Listen[0].Address))
			}
			writeEnv(cmd.OutOrStdout(), shell, url)
			return nil
		},
	}
	cmd.Flags().StringVar(&shell, "shell", "sh", "`SHELL`: sh, fish, powershell or docker")
	cmd.Flags().StringVar(&client, "for", "", "print the snippet for `CLIENT`: "+strings.Join(clientNames(), ", "))
	return cmd
}

// proxyURL is how clients of this machine write a listener.
func proxyURL(l config.Listener) (string, error) {
	address := dialable(l.Address)
	switch {
	case strings.HasSuffix(address, ":0"):
		return "", fmt.Errorf("the port of %s is chosen when the daemon starts: its log says which; give listen a fixed port", l.Address)
	case l.TLSCert != "":
		return "https://" + address, nil
	}
	return "http://" + address, nil
}

// writeEnv prints every variable in the syntax of a shell.
func writeEnv(out io.Writer, shell, url string) {
	format := map[string]string{
		"sh": "export %s=%s\n", "fish": "set -gx %s %s\n", "powershell": "$env:%s = \"%s\"\n", "docker": "-e %s=%s\n",
	}[shell]
	for _, name := range proxyVariables {
		fmt.Fprintf(out, format, name, url)
		fmt.Fprintf(out, format, strings.ToLower(name), url)
	}
	fmt.Fprintf(out, format, "NO_PROXY", noProxy)
	fmt.Fprintf(out, format, "no_proxy", noProxy)
	fmt.Fprintf(out, format, "NODE_USE_ENV_PROXY", "1") // Node from 22.21 and 24 on reads the variables only then
}

// snippets are the shortest forms known to work; URL is put in, HOST and PORT
// too.
var snippets = map[string]string{
	"curl":             `curl -x URL https://api.binance.com/api/v3/time`,
	"requests":         `requests.get(url, proxies={"http": "URL", "https": "URL"})`,
	"httpx":            `httpx.Client(proxy="URL")`,
	"aiohttp":          "session.get(url, proxy=\"URL\"); session.ws_connect(url, proxy=\"URL\")\n# or: aiohttp.ClientSession(trust_env=True), with HTTPS_PROXY and WSS_PROXY set",
	"websockets":       "websockets.connect(url, proxy=\"URL\")  # websockets >= 15",
	"websocket-client": `websocket.create_connection(url, http_proxy_host="HOST", http_proxy_port=PORT, proxy_type="http")`,
	"cryptofeed":       "# set the variables too (eval \"$(proxyd env)\"), and have websockets >= 15\nBinance(symbols=..., channels=..., callbacks=..., http_proxy=\"URL\")",
	"ccxt":             "ccxt.binance({\"httpsProxy\": \"URL\"})\n# async and pro: {\"httpsProxy\": \"URL\", \"wssProxy\": \"URL\"}",
	"ccxt-js":          "const ex = new ccxt.pro.binance({httpsProxy: 'URL', wssProxy: 'URL'}); await ex.loadProxyModules()  // npm i https-proxy-agent",
	"freqtrade":        `"exchange": {"ccxt_config": {"httpsProxy": "URL", "wsProxy": "URL"}}`,
	"nautilus":         `proxy_url="URL"  # in every data and exec client config`,
	"node":             "NODE_USE_ENV_PROXY=1 HTTPS_PROXY=URL HTTP_PROXY=URL node app.js  # Node >= 22.21 or 24",
	"undici":           `setGlobalDispatcher(new ProxyAgent("URL"))`,
	"ws":               `new WebSocket(url, {agent: new HttpsProxyAgent("URL")})  // npm i https-proxy-agent`,
	"axios":            `axios.create({proxy: false, httpsAgent: new HttpsProxyAgent("URL")})  // npm i https-proxy-agent`,
	"go":               "http.DefaultTransport, gorilla's and coder's dialers read HTTPS_PROXY=URL\n// or: &http.Transport{Proxy: http.ProxyURL(u)} with u = URL",
	"rust":             `reqwest::Client::builder().proxy(reqwest::Proxy::all("URL")?)`,
	"java":             "java -Dhttps.proxyHost=HOST -Dhttps.proxyPort=PORT -Dhttp.proxyHost=HOST -Dhttp.proxyPort=PORT ...",
	"dotnet":           `new HttpClientHandler { Proxy = new WebProxy("URL") }; ws.Options.Proxy = new WebProxy("URL")`,
}

func clientNames() []string { return slices.Sorted(maps.Keys(snippets)) }

func writeSnippet(out io.Writer, client, url string) error {
	text, ok := snippets[strings.ToLower(client)]
	if !ok {
		return usageError{fmt.Errorf("--for %s: must be one of %s", client, strings.Join(clientNames(), ", "))}
	}
	_, address, _ := strings.Cut(url, "://")
	i := strings.LastIndexByte(address, ':')
	text = strings.NewReplacer("URL", url, "HOST", strings.Trim(address[:i], "[]"), "PORT", address[i+1:]).Replace(text)
	_, err := fmt.Fprintln(out, text)
	return err
}
