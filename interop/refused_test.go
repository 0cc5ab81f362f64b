//go:build interop

package interop

import (
	"strconv"
	"strings"
	"testing"
)

func number(n int) string { return strconv.Itoa(n) }

// codes is how each class reaches a client.
var codes = map[string]struct{ http, socks int }{
	"denied":             {403, 2},
	"upstream_dns":       {502, 1},
	"upstream_refused":   {502, 1},
	"upstream_protocol":  {502, 1},
	"upstream_tls":       {502, 1},
	"upstream_auth":      {502, 1},
	"upstream_denied":    {502, 1},
	"target_refused":     {502, 5},
	"target_unreachable": {502, 4},
	"target_dns":         {502, 4},
	"upstream_timeout":   {504, 6},
	"target_timeout":     {504, 6},
}

// deadTargets: what is wrong behind a real upstream is reported as what it is, as
// far as the upstream says, in each of the client's protocols.
func (w *world) deadTargets(t *testing.T) {
	for _, u := range w.upstreams {
		for _, label := range []string{"refused", "unreachable", "unknown", "silent", "forbidden"} {
			class := u.dead[label]
			if class == "" {
				continue // the program has no such answer
			}
			host := label + "." + u.domain
			run(t, "curl, CONNECT, "+label+" → "+u.name+": "+class, func(t *testing.T) {
				w.tunnelRefused(t, host, class, "upstream="+u.name, u.name+" ")
			})
			if label == "silent" {
				continue // it costs a second
			}
			run(t, "curl, plain HTTP, "+label+" → "+u.name+": "+class, func(t *testing.T) { w.plainDead(t, u, label, host, class) })
			run(t, "curl, socks5-hostname, "+label+" → "+u.name+": "+class, func(t *testing.T) { w.socksRefused(t, host, class) })
		}
	}
}

// plainDead: an HTTP upstream's own page looks like the exchange's, so
// it is handed on as it is.
func (w *world) plainDead(t *testing.T, u *upstream, label, host, class string) {
	t.Helper()
	if !u.http {
		w.plainRefused(t, host, class, "upstream="+u.name)
		return
	}
	status := map[string]string{"tinyproxy": "500", "squid": "503"}[u.product]
	switch {
	case label == "forbidden":
		status = "403"
	case label == "unknown" && u.product == "squid":
		status = "502"
	}
	w.curl(t, "-i", "--fail-with-body", "-x", "http://"+open, "http://"+host+"/").says(t, 22,
		"The requested URL returned error: "+status, "HTTP/1.1 "+status+" ", "Server: "+u.product)
}

// tunnelRefused: curl's exit code and last line name the status, -v the reason,
// and the fields that say who is to blame.
func (w *world) tunnelRefused(t *testing.T, host, class string, words ...string) {
	t.Helper()
	w.curl(t, "-v", "-x", "http://"+open, "https://"+host+"/").refused(t, class, words...)
}

// refused is the answer to CONNECT of tunnelRefused.
func (a answer) refused(t *testing.T, class string, words ...string) {
	t.Helper()
	status := number(codes[class].http)
	a.says(t, 56, append(words, "CONNECT tunnel failed, response "+status, "< HTTP/1.1 "+status+" proxyd: "+class+": ",
		"< X-Proxyd-Error: class="+class, "< Proxy-Status: proxyd; error=", "< X-Proxyd-Request-Id: ")...)
}

// plainRefused: the answer is an ordinary one, whose body is a sentence.
func (w *world) plainRefused(t *testing.T, host, class string, words ...string) {
	t.Helper()
	status := number(codes[class].http)
	a := w.curl(t, "-i", "--fail-with-body", "-x", "http://"+open, "http://"+host+"/")
	a.says(t, 22, append(words, "The requested URL returned error: "+status, "HTTP/1.1 "+status+" proxyd: "+class+": ", "class="+class)...)
	if _, body, _ := strings.Cut(string(a.body), "\r\n\r\n"); len(strings.Fields(body)) < 4 {
		t.Errorf("the body is no sentence: %q", body)
	}
}

// socksRefused: all that SOCKS5 can say is a number, and curl says it.
func (w *world) socksRefused(t *testing.T, host, class string) {
	t.Helper()
	a := w.curl(t, "--socks5-hostname", open, "https://"+host+"/")
	a.says(t, 97, "("+number(codes[class].socks)+")")
}

// faulty are the real upstreams with a typing error each.
// "localhost" for the wrong passwords, because the same user of the same
// address would be the same upstream as the one that is right.
var faulty = []struct{ name, url, class string }{
	{"no listener", "http://127.0.0.1:9", "upstream_refused"},
	{"unknown name", "socks5://nowhere.test:1080", "upstream_dns"},
	{"tinyproxy, no password", "http://127.0.0.1:8082", "upstream_auth"},
	{"tinyproxy, wrong password", "http://feed:wrong-Password-9@localhost:8082", "upstream_auth"},
	{"squid, no password", "http://127.0.0.1:3129", "upstream_auth"},
	{"squid, wrong password", "http://feed:wrong-Password-9@localhost:3129", "upstream_auth"},
	{"microsocks, no password", "socks5://127.0.0.1:1081", "upstream_auth"},
	{"microsocks, wrong password", "socks5://feed:wrong-Password-9@localhost:1081", "upstream_auth"},
	{"tinyproxy, as socks5", "socks5://127.0.0.1:8081", "upstream_timeout"},
	{"tinyproxy, as socks4a", "socks4a://127.0.0.1:8081", "target_timeout"},
	{"tinyproxy, as https", "https://127.0.0.1:8081", silentOrNoTLS},
	{"squid, as socks5", "socks5://127.0.0.1:3128", "upstream_timeout"},
	{"squid, as https", "https://127.0.0.1:3128", "upstream_tls"},
	{"squid in TLS, as http", "http://127.0.0.1:3130", "upstream_protocol"},
	{"squid in TLS, without its CA", "https://tls-proxy.test:3130", "upstream_tls"},
	{"microsocks, as http", "http://127.0.0.1:1080", "upstream_protocol"},
	{"microsocks, as socks4a", "socks4a://127.0.0.1:1080", "upstream_protocol"},
	{"dante, as http", "http://127.0.0.1:1082", "upstream_protocol"},
	{"dante, as https", "https://127.0.0.1:1082", "upstream_tls"},
}

// silentOrNoTLS is one of two classes, by chance: it answers, in clear, if the
// random bytes of our TLS hello hold what it takes for the end of a line.
const silentOrNoTLS = "upstream_timeout or upstream_tls"

func exchangeOf(name string) string {
	return strings.NewReplacer(", ", "_", " ", "_").Replace(strings.ToLower(name))
}

func hostOf(name string) string {
	return strings.ReplaceAll(exchangeOf(name), "_", "-") + ".fault.test"
}

func (w *world) upstreamRefuses(t *testing.T) {
	for _, f := range faulty {
		if f.class == silentOrNoTLS {
			run(t, "curl, CONNECT → "+f.name+": "+f.class, func(t *testing.T) {
				a, class := w.curl(t, "-v", "-x", "http://"+open, "https://"+hostOf(f.name)+"/"), "upstream_timeout"
				if strings.Contains(a.words, "class=upstream_tls") {
					class = "upstream_tls"
				}
				a.refused(t, class)
			})
			continue
		}
		run(t, "curl, CONNECT → "+f.name+": "+f.class, func(t *testing.T) { w.tunnelRefused(t, hostOf(f.name), f.class) })
		if strings.HasSuffix(f.class, "_timeout") {
			continue // it waits for a line to end, which costs a second
		}
		run(t, "curl, socks5-hostname → "+f.name+": "+f.class, func(t *testing.T) { w.socksRefused(t, hostOf(f.name), f.class) })
		if f.name == "tinyproxy, wrong password" {
			continue // it says 401 then, with a page, as an exchange might
		}
		run(t, "curl, plain HTTP → "+f.name+": "+f.class, func(t *testing.T) { w.plainRefused(t, hostOf(f.name), f.class) })
	}
}
