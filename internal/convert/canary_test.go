package convert

import (
	"fmt"
	"strings"
	"testing"

	"proxyd/internal/proxylist"
)

// canary is a credential that nothing that is shown may hold.
const canary = "hunter2"

// sources are texts of each kind with a slot for what people write where a proxy
// stands, and slips that make none of it.
var sources = map[proxylist.Kind][]string{
	proxylist.Lines: {"%s\n", "192.0.2.1:1080:u:p\n%s\n", "http://192.0.2.1:80\n%s\n", "ip,port,username,password\n192.0.2.1,1080,u,p\n%s\n", "proxy,country\n%s,JP\n"},
	proxylist.Env:   {"HTTPS_PROXY=%s\n", "HTTPS_PROXY='%s'\nHTTP_PROXY=http://a.example:1\n", "HTTPS_PROXY=http://a.example:1\nNO_PROXY=%s\n", "HTTPS_PROXY=http://a.example:1\nX_PROXY=%s\n"},
	proxylist.Clash: {
		"proxies:\n- {name: a, type: socks5, server: \"%s\", port: 1080}\n- {name: b, type: http, server: b.example, port: 1}\n",
		"proxies:\n- {name: a, type: socks5, server: a.example, port: \"%s\"}\n- {name: b, type: http, server: b.example, port: 1}\n",
		"proxies:\n- {name: a, type: socks5, server: a.example, port: 1, username: \"%s\", password: \"%s\"}\n",
		"proxies:\n- {name: \"x %[1]s\", type: socks5, server: a.example, port: 1, username: u, password: \"%[1]s\"}\nproxy-groups:\n- {name: g, type: select, proxies: [\"x %[1]s\"]}\nrules:\n- \"DOMAIN,a.example,x %[1]s\"\n- \"GEOIP,CN,x %[1]s\"\n",
		"proxies:\n- {name: \"%[1]s\", type: ss, server: a.example, port: 1, cipher: x, password: \"%[1]s\"}\n- {name: b, type: http, server: b.example, port: 1}\nproxy-groups:\n- {name: g, type: fallback, proxies: [\"%[1]s\", b]}\nrules:\n- \"MATCH,%[1]s\"\n",
		"proxy-providers:\n  p: {type: inline, payload: [{name: \"%[1]s\", type: socks5, server: a.example, port: 1, username: u, password: \"%[1]s\"}, {name: x, type: ss, password: \"%[1]s\"}]}\n  q: {type: http, url: \"https://a.example/%[1]s\"}\n  r: {type: file, path: \"%[1]s\"}\nproxy-groups:\n- {name: g, type: fallback, use: [p, q, r]}\n",
		"proxies:\n- {name: b, type: http, server: b.example, port: 1, tls: true, sni: \"%s\"}\n",
	},
	proxylist.Squid: {
		"cache_peer a.example parent 3128 0 login=u:%s\n", "cache_peer a.example parent 3128 0 login=%s name=x\n", "cache_peer %s parent 3128 0\ncache_peer b.example parent 1 0\n",
		"cache_peer a.example parent %s 0\ncache_peer b.example parent 1 0\n", "cache_peer a.example parent 3128 0 %s\n", "cache_peer a.example parent 3128 0 tls ssldomain=%s\n",
	},
	proxylist.Gost: {
		"gost -L=:1 -F=socks5://u:%s@a.example:1\n", "gost -L=:1 -F=%s\n", "gost -L=:1 -F=http://a.example:1 -F '%s'\n", "http://a.example:1\n%s\n", "gost -F=http://a.example:1?%s\n",
		"chains:\n- name: c\n  hops:\n  - name: h\n    nodes:\n    - {name: n, addr: \"%s\", connector: {type: http}}\n    - {name: m, addr: \"b.example:1\"}\n",
		"chains:\n- name: c\n  hops:\n  - name: h\n    nodes:\n    - {name: n, addr: \"a.example:1\", connector: {type: http, auth: {username: \"%s\", password: \"%s\"}}}\n",
	},
}

var shapesOfCredentials = []string{
	canary, "u:" + canary, canary + ":p", "a.example:1080:u:" + canary, "a.example:1080:" + canary, "u:" + canary + "@a.example:1080", "u:" + canary + ":192.0.2.1:1080",
	"socks5://u:" + canary + "@a.example:1080", "socks5://" + canary + "@a.example:1080", "socks5://a.example:1080:u:" + canary, "http://u:" + canary + "%zz@a.example:1",
	"http://u:" + canary + "/@a.example:1", canary + "://a.example:1", "http://a.example:" + canary, "http://a.example:1/" + canary, "http://a.example:1?k=" + canary, "ss://" + canary,
	"u:" + canary + "://a.example:1", canary + "=x", canary + "@", "@" + canary, "http://a.example@" + canary, "a.example,1080,u," + canary, "Basic " + canary, "${" + canary + "}", "http://[" + canary + "]:1",
}

// Promise (security): proxyd import shows no credential, whatever slip makes none of
// it: not in the YAML, not in what it says.
func TestImportShowsNoCredential(t *testing.T) {
	t.Parallel()
	for kind, texts := range sources {
		for _, text := range texts {
			for _, shape := range shapesOfCredentials {
				slots := make([]any, strings.Count(text, "%s"))
				for i := range slots {
					slots[i] = shape
				}
				if strings.Contains(text, "%[1]s") {
					slots = []any{shape}
				}
				source := fmt.Sprintf(text, slots...)
				r, err := Convert(Source{Name: "x", Text: []byte(source), Kind: kind})
				if err != nil {
					if strings.Contains(err.Error(), canary) {
						t.Errorf("%s leads to the error %v", source, err)
					}
					continue
				}
				if shown := fmt.Sprint(r.YAML, r.Losses, r.Notes, r.Variables); strings.Contains(shown, canary) && !hostIsCanary(source, r.YAML) {
					t.Errorf("%s leads to\n%s", source, shown)
				}
				load(t, r)
			}
		}
	}
}

// hostIsCanary reports whether the canary is only where a valid host is: a word there
// is a host, whatever was meant.
func hostIsCanary(source, yaml string) bool {
	for line := range strings.Lines(yaml) {
		if i := strings.Index(line, canary); i >= 0 && strings.HasPrefix(strings.TrimSpace(line), "#") {
			return false
		}
	}
	return strings.Count(yaml, canary) > 0 && !strings.Contains(yaml, ":"+canary+"@")
}
