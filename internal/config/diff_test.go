package config_test

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
	"proxyd/internal/target"
)

const diffBase = `
default: asia
drain_seconds: 10
listen: [{address: "127.0.0.1:1", auth: {users: [{name: a, password: p}]}}, "127.0.0.1:2"]
pools:
  asia:
    proxies:
      - {name: tokyo-1, url: "socks5://u:geheim@t1.example:1"}
      - {name: tokyo-2, url: "socks5://t2.example:1"}
  corp: {proxies: ["http://px.example:3128"]}
exchanges:
  okx: asia
  kraken: {http: "http://u:geheim@k.example:1", websocket: corp}
  venue: {hosts: [a.venue.example], websocket: asia}
routes:
  - {hosts: [a.example], use: direct}
  - {hosts: [b.example], use: reject}
`

func TestDiff(t *testing.T) {
	base := load(t, diffBase)
	for name, c := range map[string]struct {
		swap []string // old, new, …
		env  []string
		want []string
	}{
		"nothing":                      {nil, nil, nil},
		"a comment, another order":     {[]string{"default: asia\ndrain_seconds: 10\n", "# c\ndrain_seconds: 10\ndefault: asia\n"}, nil, nil},
		"the long spelling":            {[]string{"okx: asia", "okx: {http: {pool: asia}, websocket: asia}"}, nil, nil},
		"a default, written":           {[]string{"drain_seconds: 10\n", "drain_seconds: 10\nwatch: true\n"}, nil, nil},
		"a scalar":                     {[]string{"drain_seconds: 10", "drain_seconds: 20"}, nil, []string{"~ drain_seconds: 10 → 20"}},
		"a variable":                   {nil, []string{"PROXYD_DRAIN_SECONDS=0.5"}, []string{"~ drain_seconds: 10 → 0.5"}},
		"max_tunnels is set":           {[]string{"drain_seconds: 10", "max_tunnels: 5"}, nil, []string{"~ max_tunnels: not set → 5"}},
		"one kind":                     {[]string{"okx: asia", "okx: {http: direct, websocket: asia}"}, nil, []string{"~ exchanges.okx.http: asia → direct"}},
		"both kinds":                   {[]string{"okx: asia", "okx: corp"}, nil, []string{"~ exchanges.okx: asia → corp"}},
		"the kinds apart":              {[]string{"okx: asia", "okx: {http: direct, websocket: reject}"}, nil, []string{"~ exchanges.okx.http: asia → direct", "~ exchanges.okx.websocket: asia → reject"}},
		"an outbound is removed":       {[]string{", websocket: corp}", "}"}, nil, []string{"~ exchanges.kraken.websocket: corp → asia (default)"}},
		"a URL":                        {[]string{"k.example:1", "l.example:2"}, nil, []string{"~ exchanges.kraken.http: http://***:***@k.example:1 → http://***:***@l.example:2"}},
		"a URL's password":             {[]string{"u:geheim@k", "u:geheim2@k"}, nil, []string{"~ proxy k.example:1 password changed"}},
		"a URL's user":                 {[]string{"u:geheim@k", "v:geheim@k"}, nil, []string{"~ proxy k.example:1 user changed"}},
		"a URL's credentials":          {[]string{"u:geheim@k", "k"}, nil, []string{"~ exchanges.kraken.http: http://***:***@k.example:1 → http://k.example:1", "~ proxy k.example:1 user changed", "~ proxy k.example:1 password changed"}},
		"a URL becomes a pool":         {[]string{`"http://u:geheim@k.example:1"`, `{pool: {proxies: ["http://u:geheim@k.example:1", direct]}}`}, nil, []string{"+ proxy direct (exchanges.kraken.http)"}},
		"a timeout":                    {[]string{"okx: asia", "okx: {pool: asia, timeout_seconds: 9}"}, nil, []string{"~ exchanges.okx.timeout_seconds: 4 → 9"}},
		"the default":                  {[]string{"default: asia", "default: direct"}, nil, []string{"~ default: asia → direct"}},
		"the default is gone":          {[]string{"default: asia\n", ""}, nil, []string{"~ default: asia → not set"}},
		"a strategy":                   {[]string{"  asia:\n", "  asia:\n    strategy: failover\n"}, nil, []string{"~ pools.asia.strategy: round_robin → failover"}},
		"a pool":                       {[]string{"exchanges:", "  eu: {proxies: [direct]}\nexchanges:"}, nil, []string{"+ pool eu"}},
		"a member":                     {[]string{`      - {name: tokyo-2, url: "socks5://t2.example:1"}` + "\n", ""}, nil, []string{"- proxy tokyo-2 (pool asia)"}},
		"a member's password":          {[]string{"u:geheim@t1", "u:geheim2@t1"}, nil, []string{"~ proxy tokyo-1 password changed"}},
		"a member's host":              {[]string{"geheim@t1.", "geheim@t3."}, nil, []string{"~ proxy tokyo-1 url: socks5://***:***@t1.example:1 → socks5://***:***@t3.example:1"}},
		"a member's weight":            {[]string{"{name: tokyo-2,", "{name: tokyo-2, weight: 3,"}, nil, []string{"~ proxy tokyo-2 weight: 1 → 3 (pool asia)"}},
		"a member's hop":               {[]string{"{name: tokyo-2,", "{name: tokyo-2, via: corp,"}, nil, []string{"~ proxy tokyo-2 via: not set → corp"}},
		"a member's budget":            {[]string{"{name: tokyo-2,", "{name: tokyo-2, limits: {connects: 300/5m, queue_seconds: 2},"}, nil, []string{"~ proxy tokyo-2 limits: not set → 300/5m, queue_seconds 2 (pool asia)"}},
		"a member's exit":              {[]string{"{name: tokyo-2,", "{name: tokyo-2, exit: \"[2001:db8::1]:1\","}, nil, []string{"~ proxy tokyo-2 exit: tokyo-2 → [2001:db8::1]:1 (pool asia)"}},
		"the members' order":           {[]string{"{name: tokyo-1, url: \"socks5://u:geheim@t1", "{name: tokyo-2, url: \"socks5://t2", "{name: tokyo-2, url: \"socks5://t2.example:1\"}\n", "{name: tokyo-1, url: \"socks5://u:geheim@t1.example:1\"}\n"}, nil, []string{"~ pools.asia.proxies: order changed"}},
		"checks":                       {[]string{"corp: {", "corp: {health_check: {method: tcp}, eject: {after: 4}, "}, nil, []string{"~ pools.corp.health_check: not set → tcp", "~ pools.corp.eject.after: 3 → 4"}},
		"an exchange":                  {[]string{"  okx: asia\n", "  bybit: {http: \"http://b.example:1\"}\n"}, nil, []string{"+ exchange bybit: {http: http://b.example:1}", "~ exchange okx: asia → asia (default)"}},
		"an exchange falls to direct":  {[]string{"default: asia\n", "default: direct\n", "  okx: asia\n", ""}, nil, []string{"~ default: asia → direct", "~ exchange okx: asia → direct (default)"}},
		"and without a default":        {[]string{"default: asia\n", "", "  okx: asia\n", ""}, nil, []string{"~ default: asia → not set", "~ exchange okx: asia → direct (no default)"}},
		"a host":                       {[]string{"[a.venue.example]", "{http: [a.venue.example], websocket: [\"*.venue.example\"]}"}, nil, []string{"+ host a.venue.example (exchange venue, http)", "+ host *.venue.example (exchange venue, websocket)", "- host a.venue.example (exchange venue, both)"}},
		"a budget of a kind":           {[]string{"websocket: corp}", "websocket: {pool: corp, limits: {max_connections: 3}}}"}, nil, []string{"~ exchanges.kraken.websocket.limits: not set → max_connections 3"}},
		"a share of a budget":          {[]string{"websocket: corp}", "websocket: corp, limits: {max_connections: 30, share: 1/3}}"}, nil, []string{"~ exchanges.kraken.limits: not set → max_connections 30, share 1/3"}},
		"a budget of both":             {[]string{"websocket: corp}", "websocket: corp, limits: {max_connections: 3}}"}, nil, []string{"~ exchanges.kraken.limits: not set → max_connections 3"}},
		"a probe":                      {[]string{"websocket: corp}", "websocket: corp, probe: {http: \"https://k.example/\"}}"}, nil, []string{"~ exchanges.kraken.probe.http: not set → https://k.example/"}},
		"a route":                      {[]string{"  - {hosts: [b", "  - {hosts: [c.example, \"*\"], use: corp}\n  - {hosts: [b"}, nil, []string{"+ routes[1] (c.example, *): corp"}},
		"a route's outbound":           {[]string{"use: reject", "use: direct"}, nil, []string{"~ routes[1] (b.example): reject → direct"}},
		"the routes' order":            {[]string{"[a.example], use: direct", "[b.example], use: reject", "[b.example], use: reject}\n", "[a.example], use: direct}\n"}, nil, []string{"~ routes: order changed"}},
		"a listener":                   {[]string{`, "127.0.0.1:2"]`, `, "127.0.0.1:3"]`}, nil, []string{"+ listen 127.0.0.1:3", "- listen 127.0.0.1:2"}},
		"a listener's users":           {[]string{"password: p}", "password: q}"}, nil, []string{"~ listen 127.0.0.1:1: auth changed"}},
		"a listener's use and clients": {[]string{`"127.0.0.1:2"`, `{address: "127.0.0.1:2", use: corp, allow: [127.0.0.0/8]}`}, nil, []string{"~ listen 127.0.0.1:2: use: not set → corp", "~ listen 127.0.0.1:2: allow: not set → 127.0.0.0/8"}},
		"the admin server":             {[]string{"drain_seconds: 10", "drain_seconds: 10\nadmin: {address: \"\", token: geheim}"}, nil, []string{"~ admin.address: 127.0.0.1:8878 → off", "~ admin.token changed"}},
		"private addresses":            {[]string{"drain_seconds: 10", "drain_seconds: 10\nallow_private: [10.0.0.0/8]"}, nil, []string{"+ allow_private 10.0.0.0/8"}},
	} {
		t.Run(name, func(t *testing.T) {
			next := load(t, strings.NewReplacer(c.swap...).Replace(diffBase), c.env...)
			got := config.Diff(base, next)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if strings.Contains(strings.Join(got, "\n"), "geheim") {
				t.Error("it shows a password")
			}
			if back := config.Diff(next, base); len(back) != len(got) {
				t.Errorf("back again: %d lines, there: %d", len(back), len(got))
			}
		})
	}
}

// Whatever a configuration holds that has an effect shows in the difference.
func TestDiffShowsEveryField(t *testing.T) {
	secret := t.TempDir() + "/secret"
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	pair(t, secret+".crt", secret+".key")
	path := write(t, strings.NewReplacer("SECRET", secret).Replace(diffEverything))
	fresh := func() *config.Config {
		c, err := config.Load(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	base := fresh()
	if got := config.Diff(base, fresh()); len(got) > 0 {
		t.Fatalf("equal ones differ: %q", got)
	}
	seen := map[string]bool{}
	for i := 0; ; i++ {
		c := fresh()
		m := mutation{left: i}
		m.walk(reflect.ValueOf(c).Elem(), "")
		if m.at == "" {
			break
		}
		seen[m.at] = true
		if got := config.Diff(base, c); len(got) == 0 {
			t.Errorf("%s: no difference", m.at)
		}
	}
	for _, must := range []string{".Pools[0].Proxies[0].URL.Password", ".Tunnel.StallBytes", ".Listen[0].Users[0].Password", ".Exchanges[0].Outbounds.HTTP.Timeout", ".Routes[0].Hosts[0]", ".Routes[0].Hosts (shorter)", ".Listen[0].Use (nil)"} {
		if !seen[must] {
			t.Errorf("%s was never changed; %d were", must, len(seen))
		}
	}
}

const diffEverything = `
default: {http: direct, websocket: {url: "http://d.example:1", name: d}}
allow_private: [10.0.0.0/8]
pools:
  asia:
    strategy: hash
    limits: {connects: 1/s, max_connections: 5, queue_seconds: 1}
    health_check: {method: tcp}
    proxies:
      - {name: t1, url: "https://u:${file:SECRET}@t1.example:1", tls: {ca_file: SECRET.crt, cert_file: SECRET.crt, key_file: SECRET.key, server_name: s}, exit: e, limits: {connects: 1/s}, via: "http://hop.example:1"}
      - "direct://203.0.113.1?interface=eth0"
      - "direct://203.0.113.2"
  far: {list: {from: "https://p.example/a?key=k", via: asia, refresh_seconds: 60, max: 9}}
exchanges:
  okx: {http: asia, websocket: {pool: {proxies: ["http://a.example:1", "http://b.example:1"]}, limits: published}, limits: {max_connections: 1}, probe: {http: "https://o.example", websocket: "wss://o.example"}}
  venue: {hosts: {http: [a.venue.example], websocket: ["*.venue.example"]}, url: "socks5://v.example:1", via: asia}
routes: [{hosts: [10.0.0.0/8, x.example], use: direct}]
listen: [{address: "127.0.0.1:1", use: "http://l.example:1", kind: websocket, auth: {users: [{name: a, password: b}]}, allow: [127.0.0.0/8], tls: {cert_file: SECRET.crt, key_file: SECRET.key}}]
admin: {address: "127.0.0.1:2", allow: [10.0.0.0/8], hosts: [h], token: t}
`

// mutation changes one field, the left-th that it meets.
type mutation struct {
	left int
	at   string // what was changed
}

// take reports whether it is this field's turn.
func (m *mutation) take(at string) bool {
	if m.at != "" || m.left > 0 {
		m.left--
		return false
	}
	m.at = at
	return true
}

// noEffect are fields that say where something comes from, not what it does,
// and those that their neighbours leave without one.
func noEffect(owner reflect.Value, field string) bool {
	switch o := owner.Interface().(type) {
	case config.Config:
		return field == "File" || field == "Sum" || field == "Warnings" || field == "Catalog" || field == "again" // its rows: TestCatalogFile
	case config.Route:
		return field == "Flag" // a command line's
	case config.Exchange:
		return field == "Custom" // the catalogue says so
	case config.Proxy:
		return field == "Hop" || field == "Apart" || field == "Listed" // Via, Password and the pool's List say so
	case config.Pool:
		return field == "Scheme" && o.List == "" || field == "NoList" && o.Source == nil
	case config.ListSource:
		return field == "Name" || field == "Shown" || field == "Scheme" || field == "Dir" // the pool's name, List and Scheme say so, and Config.StateDir
	case config.Outbound:
		return field == "Source" || field == "Pool" && o.Action != config.Use
	case config.URL:
		direct := o.Scheme == config.SchemeDirect
		return field != "Scheme" && direct != (field == "Source" || field == "Interface") && !(field == "User" || field == "Password")
	}
	return false
}

func (m *mutation) walk(v reflect.Value, at string) {
	switch v.Interface().(type) {
	case config.Secret, target.Host, target.Pattern, netip.Addr, netip.Prefix:
		m.leaf(v, at)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); !noEffect(v, f.Name) {
				m.walk(v.Field(i), at+"."+f.Name)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			m.walk(v.Index(i), fmt.Sprintf("%s[%d]", at, i))
		}
		if v.Len() > 0 && m.take(at+" (shorter)") {
			v.SetLen(v.Len() - 1)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			m.walk(v.Elem(), at)
			if m.take(at + " (nil)") {
				v.SetZero()
			}
		}
	default:
		m.leaf(v, at)
	}
}

func (m *mutation) leaf(v reflect.Value, at string) {
	if !m.take(at) {
		return
	}
	switch x := v.Addr().Interface().(type) {
	case *config.Secret:
		*x = config.NewSecret(x.Reveal() + "x")
	case *target.Host:
		*x, _ = target.ParseHost("other.example")
	case *target.Pattern:
		*x, _ = target.ParsePattern("*.other.example")
	case *netip.Addr:
		*x = netip.MustParseAddr("198.51.100.9")
	case *netip.Prefix:
		*x = netip.MustParsePrefix("198.51.100.0/24")
	case *time.Duration:
		*x += time.Second
	default:
		switch v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Int, reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.Float64:
			v.SetFloat(v.Float() + 1)
		case reflect.Uint8, reflect.Uint16:
			v.SetUint(v.Uint() ^ 1)
		default:
			panic(at + " is a " + v.Type().String() + ", which this test cannot change")
		}
	}
}
