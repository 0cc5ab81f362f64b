package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

// noProxy lists what clients must not send through a proxy: this machine and the
// clouds' metadata services.
const noProxy = "localhost,127.0.0.1,::1,169.254.169.254,metadata.google.internal"

// proxyVariables point clients here; several libraries read only one of them,
// and some only one case.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "WS_PROXY", "WSS_PROXY", "ALL_PROXY"}

// nodeVariable makes Node, from 22.21 and 24 on, read the others.
const nodeVariable = "NODE_USE_ENV_PROXY"

// shells are the supported syntaxes: what stands before the variables, and how each
// is set and unset. fail is what makes the shell, or the unit, fail when there is
// nothing to print: eval of an empty string succeeds, and the client would then
// connect directly.
var shells = map[string]struct{ begin, set, unset, fail string }{
	"sh":         {"", "export %s=%s\n", "unset %s\n", "false\n"},
	"fish":       {"", "set -gx %s %s\n", "set -e %s\n", "false\n"},
	"powershell": {"", "$env:%s = \"%s\"\n", "Remove-Item -ErrorAction SilentlyContinue Env:%s\n", "throw 'proxyd env failed'\n"},
	"docker":     {"", "-e %s=%s\n", "", ""},
	"systemd":    {"[Unit]\nWants=proxyd.service\nAfter=proxyd.service\n\n[Service]\n", "Environment=%s=%s\n", "", "[Service]\nExecStartPre=/bin/false\n"},
}

// shellNames are other names of the shells above.
var shellNames = map[string]string{"bash": "sh", "zsh": "sh", "ksh": "sh", "dash": "sh", "ash": "sh", "pwsh": "powershell"}

// envOptions are the flags of env.
type envOptions struct {
	shell, client, listener, user string
	unset, kindLabel              bool
}

func envCommand() *cobra.Command {
	var o envOptions
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the variables that point clients at proxyd, or one client's snippet",
		Long: `Print the variables that point clients at proxyd, in both cases, with NO_PROXY
for this machine and the clouds' metadata services; or, with --for, the shortest
working snippet for one client library.

They point at the first listener without use, password or TLS; --listener names
another one. Only the key listen of the configuration has to be valid. If nothing
can be printed, the shell that evaluates the output fails too, and so does the
service whose drop-in it is.

If a host serves both kinds and they have different outbounds, WS_PROXY and
WSS_PROXY have +websocket in their user name; --kind-label adds it always.`,
		Example: `  eval "$(proxyd env)"
  proxyd env --shell fish | source
  vars=$(proxyd env --shell docker) && docker run --network host $vars my-feed
  proxyd env --shell systemd > /etc/systemd/system/feed.service.d/proxyd.conf
  proxyd env --for ccxt
  eval "$(proxyd env --unset)"`,
		Args: cobra.ArbitraryArgs,
	}
	printsScript(cmd, o.print, func() string { // with docker or --for the output is not evaluated
		if shell, ok := shells[o.shellName()]; o.client == "" && ok {
			return shell.fail
		} else if o.client == "" {
			return shells["sh"].fail
		}
		return ""
	})
	flags := cmd.Flags()
	flags.StringVar(&o.shell, "shell", "sh", "`SHELL`: sh (bash, zsh, ksh), fish, powershell, docker, or systemd for a drop-in of a unit")
	flags.StringVar(&o.client, "for", "", "print the snippet for `CLIENT`: "+strings.Join(clientNames(), ", "))
	flags.StringVar(&o.listener, "listener", "", "point at the listener `ADDR`, as the configuration writes it")
	flags.StringVar(&o.user, "user", "", "`NAME[:PASSWORD]` for the listener; without auth the name is a label for the log")
	flags.BoolVar(&o.unset, "unset", false, "print the commands that unset the variables")
	flags.BoolVar(&o.kindLabel, "kind-label", false, "add +websocket to the user name in WS_PROXY and WSS_PROXY")
	return cmd
}

func (o *envOptions) shellName() string {
	if name, ok := shellNames[o.shell]; ok {
		return name
	}
	return o.shell
}

// print writes the variables or the snippet.
func (o *envOptions) print(cmd *cobra.Command) error {
	if err := oneOf("shell", o.shellName(), "sh", "fish", "powershell", "docker", "systemd"); err != nil {
		return err
	}
	if o.unset {
		return o.writeUnset(cmd.OutOrStdout())
	}
	if _, ok := snippets[strings.ToLower(o.client)]; o.client != "" && !ok {
		return usageError{fmt.Errorf("--for %s: must be one of %s%s", o.client, strings.Join(clientNames(), ", "), config.DidYouMean(o.client, clientNames()))}
	}
	path := configPath(cmd)
	all, err := config.ClientListeners(path, os.Environ())
	if err != nil {
		return err
	}
	l, err := o.choose(all)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), "proxyd: "+format+"\n", args...) }
	labelled := o.kindLabel
	if _, snap, err := load(path, config.Options{NoSecrets: true}); err != nil {
		say("%s has errors, see proxyd check; only its listen was read", path)
	} else {
		labelled = labelled || l.Kind != catalog.KindWebsocket.String() && !l.Use && snap.SplitsHosts()
	}
	p, err := o.pointers(l, labelled)
	if err != nil {
		return err
	}
	if l.Auth && o.user == "" {
		say("this listener needs a password: --user NAME:PASSWORD")
	}
	if l.Use && o.listener == "" {
		say("every connection to %s leaves through its use; --listener names another one", l.Address)
	}
	if o.client != "" {
		return writeSnippet(cmd.OutOrStdout(), o.client, p)
	}
	writeEnv(cmd.OutOrStdout(), o.shellName(), p)
	return nil
}

// choose returns the listener to point at: the one that is named, else the first
// that every client can use for every exchange, else the first.
func (o *envOptions) choose(all []config.ClientListener) (config.ClientListener, error) {
	if o.listener != "" {
		have := make([]string, len(all))
		for i, l := range all {
			have[i] = l.Address
			if l.Address == o.listener {
				return l, nil
			}
			host, port, err := net.SplitHostPort(o.listener)
			if err == nil && port != "0" && l.Address == net.JoinHostPort(host, "0") { // the port in the daemon's log
				l.Address = o.listener
				return l, nil
			}
		}
		return config.ClientListener{}, usageError{fmt.Errorf("--listener %s: the configuration has %s", o.listener, strings.Join(have, ", "))}
	}
	for _, l := range all {
		if !l.Use && !l.Auth && !l.TLS && l.Kind == "" {
			return l, nil
		}
	}
	return all[0], nil
}

// pointers are what clients are given: the proxy's URL, and that for
// websockets, which may say the kind.
type pointers struct {
	url, websocket string
	host, port     string
	user, password string
	websocketUser  string // user, perhaps with the kind
}

// kindUser is the user name that carries the kind where the client gives none.
const kindUser = "feed"

// pointers returns the URLs of a listener for clients on this machine.
func (o *envOptions) pointers(l config.ClientListener, labelled bool) (pointers, error) {
	address := dialable(l.Address)
	var p pointers
	var err error
	if p.host, p.port, err = net.SplitHostPort(address); err != nil {
		return p, err
	}
	if p.port == "0" {
		return p, fmt.Errorf("the port of %s is chosen when the daemon starts: give listen a fixed port, or name the one in its log: --listener HOST:PORT", l.Address)
	}
	var hasPassword bool
	p.user, p.password, hasPassword = strings.Cut(o.user, ":")
	switch {
	case o.user == "" && l.Auth:
		labelled = false // it would be read as a user's name
	case p.user == "" && o.user != "":
		return p, usageError{errors.New("--user: must be NAME:PASSWORD, or NAME if the listener needs no password")}
	case !hasPassword && l.Auth:
		return p, usageError{fmt.Errorf("--user %s: the listener %s needs a password: NAME:PASSWORD", o.user, l.Address)}
	case p.password == "":
		p.password = "x" // many clients drop a name without a password
	}
	scheme := "http://"
	if l.TLS {
		scheme = "https://"
	}
	p.websocketUser = p.user
	if labelled {
		p.websocketUser = cmp.Or(p.user, kindUser) + "+websocket"
	}
	p.url = scheme + userinfo(p.user, p.password) + address
	p.websocket = scheme + userinfo(p.websocketUser, p.password) + address
	return p, nil
}

// userinfo returns name:password@ in a form that is safe in URLs and shells, ""
// without a name.
func userinfo(name, password string) string {
	if name == "" {
		return ""
	}
	return escape(name) + ":" + escape(password) + "@"
}

// escape returns s with all but letters, digits and -._~+ percent-encoded; no client
// changes those.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~+", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// variables returns the names and values of every variable.
func variables(p pointers) (list [][2]string) {
	for _, name := range proxyVariables {
		url := p.url
		if strings.HasPrefix(name, "WS") {
			url = p.websocket
		}
		list = append(list, [2]string{name, url}, [2]string{strings.ToLower(name), url})
	}
	return append(list, [2]string{"NO_PROXY", noProxy}, [2]string{"no_proxy", noProxy}, [2]string{nodeVariable, "1"})
}

// writeEnv prints every variable in the syntax of a shell.
func writeEnv(out io.Writer, shell string, p pointers) {
	fmt.Fprint(out, shells[shell].begin)
	for _, v := range variables(p) {
		if shell == "systemd" {
			v[1] = strings.ReplaceAll(v[1], "%", "%%") // which begins a specifier there
		}
		fmt.Fprintf(out, shells[shell].set, v[0], v[1])
	}
}

// writeUnset prints what takes back all that writeEnv sets.
func (o *envOptions) writeUnset(out io.Writer) error {
	unset := shells[o.shellName()].unset
	if unset == "" {
		return usageError{fmt.Errorf("--unset: not for %s, which inherits none of the variables", o.shellName())}
	}
	for _, name := range append(proxyVariables, "NO_PROXY") {
		fmt.Fprintf(out, unset, name)
		fmt.Fprintf(out, unset, strings.ToLower(name))
	}
	fmt.Fprintf(out, unset, nodeVariable)
	return nil
}

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
