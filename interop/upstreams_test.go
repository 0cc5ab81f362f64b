//go:build interop

package interop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// What the upstreams want to hear. tinyproxy's own file allows no stranger
// characters.
const (
	plainPassword   = "tiny-Password-1"
	strangePassword = `p@ss:w/rd%41`
	strangeHash     = "$apr1$proxydin$L1R8PyKDIvyvzvskTUKNO0" // openssl passwd -apr1
)

// upstream is a real proxy, and the exchange that goes through it.
type upstream struct {
	name, url string
	exchange  string // a catalogue id: its hosts lead here without being listed
	rest, ws  string // two of them
	domain    string // for hosts of our own
	http      bool   // an HTTP proxy: CONNECT to port 443 alone
	product   string // whose program it is
	process   string // several upstreams may be one process with one log
	live      string // where those two are; of its own where the log has addresses alone
	said      func() string
	carried   string            // what its log says of a CONNECT to HOST, as a pattern
	plain     string            // … of a plain GET, if that is something else
	dead      map[string]string // first label of a dead host: the class that clients get
}

var (
	// An HTTP upstream's 5xx does not say what was wrong.
	httpDead  = map[string]string{"refused": "target_unreachable", "unreachable": "target_unreachable", "unknown": "target_unreachable", "silent": "target_timeout", "forbidden": "upstream_denied"}
	microDead = map[string]string{"refused": "target_refused", "unreachable": "target_unreachable", "unknown": "target_unreachable", "silent": "target_timeout"}
	danteDead = map[string]string{"refused": "target_refused", "unreachable": "target_unreachable", "unknown": "target_unreachable", "silent": "target_timeout", "forbidden": "upstream_denied"}
	// SOCKS4 has one reply for all that is wrong.
	oldDead = map[string]string{"refused": "target_unreachable", "unreachable": "target_unreachable", "unknown": "target_dns", "silent": "target_timeout", "forbidden": "target_unreachable"}
)

func upstreams() []*upstream {
	list := []*upstream{
		{name: "tinyproxy", url: "http://127.0.0.1:8081", http: true,
			exchange: "binance", rest: "api.binance.com", ws: "data-stream.binance.com",
			carried: `Established connection to host "HOST"`, dead: httpDead},
		{name: "tinyproxy-auth", url: "http://feed:${PLAIN_PW}@127.0.0.1:8082", http: true,
			exchange: "bybit", rest: "api.bybit.com", ws: "stream.bybit.com",
			carried: `Established connection to host "HOST"`, dead: httpDead},
		{name: "squid", url: "http://127.0.0.1:3128", http: true,
			exchange: "okx", rest: "www.okx.com", ws: "ws.okx.com",
			carried: `(?m)^3128 - CONNECT HOST:443 200$`, plain: `(?m)^3128 - GET http://HOST/\S* 200$`, dead: httpDead},
		{name: "squid-auth", url: "http://feed:${STRANGE_PW}@127.0.0.1:3129", http: true,
			exchange: "kraken", rest: "api.kraken.com", ws: "ws.kraken.com",
			carried: `(?m)^3129 feed CONNECT HOST:443 200$`, plain: `(?m)^3129 feed GET http://HOST/\S* 200$`, dead: httpDead},
		{name: "squid-tls", url: "https://tls-proxy.test:3130", http: true,
			exchange: "kucoin", rest: "api.kucoin.com", ws: "ws-api-futures.kucoin.com",
			carried: `(?m)^3130 - CONNECT HOST:443 200$`, plain: `(?m)^3130 - GET http://HOST/\S* 200$`, dead: httpDead},
		{name: "microsocks", url: "socks5://127.0.0.1:1080",
			exchange: "coinbase", rest: "api.coinbase.com", ws: "advanced-trade-ws.coinbase.com",
			carried: `connected to HOST:`, dead: microDead},
		{name: "microsocks-auth", url: "socks5://feed:${STRANGE_PW}@127.0.0.1:1081",
			exchange: "bitstamp", rest: "www.bitstamp.net", ws: "ws.bitstamp.net",
			carried: `connected to HOST:`, dead: microDead},
		{name: "dante", url: "socks5h://127.0.0.1:1082", live: "127.0.0.5",
			exchange: "gemini", rest: "api.gemini.com", ws: "ws.gemini.com",
			carried: `(?m)pass.* tcp/connect \[: .* 127\.0\.0\.5\.\d+$`, dead: danteDead},
		{name: "dante-socks4", url: "socks4://127.0.0.1:1082", live: "127.0.0.6", // it has no 4a: proxyd resolves the name
			exchange: "bitfinex", rest: "api.bitfinex.com", ws: "api-pub.bitfinex.com",
			carried: `(?m)pass.* tcp/connect \[: .* 127\.0\.0\.6\.\d+$`, dead: oldDead},
	}
	for _, u := range list {
		u.domain, u.process = u.name+".test", u.name
		if u.live == "" {
			u.live = liveAddr
		}
		if u.product = strings.Split(u.name, "-")[0]; u.product == "squid" || u.product == "dante" {
			u.process = u.product
		}
	}
	return list
}

// count is how often the upstream's log has a connection to host.
func (u *upstream) count(pattern, host string) int {
	return len(regexp.MustCompile(strings.ReplaceAll(pattern, "HOST", regexp.QuoteMeta(host))).FindAllString(u.said(), -1))
}

func (w *world) upstream(name string) *upstream {
	for _, u := range w.upstreams {
		if u.name == name {
			return u
		}
	}
	panic(name)
}

func (w *world) startUpstreams(t *testing.T) {
	t.Helper()
	tiny := "Listen 127.0.0.1\nPort %s\nAllow 127.0.0.1\nTimeout 60\nMaxClients 50\nLogLevel Info\nConnectPort 443\nFilter %q\nFilterExtended On\n"
	filter := file(t, "tinyproxy.filter", `^forbidden\.`+"\n")
	w.upstream("tinyproxy").said = start(t, nil, "tinyproxy", "-d", "-c", file(t, "tinyproxy.conf", fmt.Sprintf(tiny, "8081", filter))).String
	w.upstream("tinyproxy-auth").said = start(t, nil, "tinyproxy", "-d", "-c",
		file(t, "tinyproxy-auth.conf", fmt.Sprintf(tiny, "8082", filter)+"BasicAuth feed "+plainPassword+"\n")).String

	w.upstream("microsocks").said = start(t, nil, "microsocks", "-i", "127.0.0.1", "-p", "1080").String
	w.upstream("microsocks-auth").said = start(t, nil, "microsocks", "-i", "127.0.0.1", "-p", "1081", "-u", "feed", "-P", strangePassword).String

	dante := start(t, nil, "danted", "-p", filepath.Join(dir, "danted.pid"), "-f", file(t, "danted.conf", danteConf)).String
	w.upstream("dante").said, w.upstream("dante-socks4").said = dante, dante

	log := w.startSquid(t)
	for _, name := range []string{"squid", "squid-auth", "squid-tls"} {
		w.upstream(name).said = func() string {
			b, _ := os.ReadFile(log)
			return string(b)
		}
	}
	for _, port := range []int{8081, 8082, 3128, 3129, 3130, 1080, 1081, 1082} {
		testkit.Eventually(t, testkit.Patience, "a listener on port "+strconv.Itoa(port), func() bool {
			c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				return false
			}
			_ = c.Close()
			return true
		})
	}
}

const danteConf = `logoutput: stderr
internal: 127.0.0.1 port = 1082
external: lo
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks block { from: 127.0.0.0/8 to: forbidden.dante.test log: connect error }
socks block { from: 127.0.0.0/8 to: forbidden.dante-socks4.test log: connect error }
socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 log: connect error }
`

// startSquid runs squid with the rules that it is installed with, on three
// ports: open, with Basic authentication, and inside TLS. It returns its log.
func (w *world) startSquid(t *testing.T) string {
	t.Helper()
	stock := readFile(t, "/etc/squid/squid.conf")
	stock = regexp.MustCompile(`(?m)^(http_port|coredump_dir|cache_dir|access_log|include) .*$`).ReplaceAllString(stock, "")
	tls := filepath.Join(dir, "squid")
	if err := os.Mkdir(tls, 0o755); err != nil {
		t.Fatal(err)
	}
	if u, err := user.Lookup("proxy"); err == nil { // whom squid becomes
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(tls, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(tls, "access.log")
	first := strings.Join([]string{
		"http_port 127.0.0.1:3128",
		"http_port 127.0.0.1:3129 name=auth",
		"https_port 127.0.0.1:3130 tls-cert=" + file(t, "squid.pem", readFile(t, w.cert)+readFile(t, w.key)),
		"auth_param basic program " + oneOf(t, "/usr/lib/squid/basic_ncsa_auth", "/usr/lib64/squid/basic_ncsa_auth") + " " + file(t, "squid.users", "feed:"+strangeHash+"\n"),
		"auth_param basic children 2 startup=1",
		"acl forbidden dstdomain -n forbidden.squid.test forbidden.squid-auth.test forbidden.squid-tls.test",
		"acl authport myportname auth",
		"acl known proxy_auth REQUIRED",
		"http_access deny authport !known",
		"http_access deny forbidden",
		"logformat interop %>lp %un %rm %ru %>Hs",
		"access_log stdio:" + log + " interop",
		"cache_log /dev/null", "pid_filename none", "cache_mem 8 MB", "netdb_filename none",
		"shutdown_lifetime 0 seconds", "visible_hostname squid.test", "max_filedescriptors 4096",
		"",
	}, "\n")
	start(t, nil, "squid", "-N", "-d", "1", "-f", file(t, "squid.conf", first+stock))
	return log
}

// oneOf is the first of these files that exists.
func oneOf(t *testing.T, paths ...string) string {
	t.Helper()
	for _, p := range paths {
		if found, err := exec.LookPath(p); err == nil {
			return found
		}
	}
	t.Fatalf("none of %v is here", paths)
	return ""
}
