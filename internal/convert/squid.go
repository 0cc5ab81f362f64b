package convert

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"proxyd/internal/config"
	"proxyd/internal/target"
)

// squid is what of a squid.conf concerns where requests go.
type squid struct {
	*document
	peers  []*squidPeer
	acls   map[string]*squidACL
	always []squidRule // always_direct
	never  []squidRule // never_direct
	pools  map[string]string
}

// squidPeer is a cache_peer.
type squidPeer struct {
	line    int
	name    string
	member  member
	options map[string]string
	access  []squidRule
}

// squidACL is an acl: the patterns of names and addresses that it holds.
type squidACL struct {
	patterns []target.Pattern
	all      bool // it matches everything
	unknown  bool // it asks what proxyd does not know
	named    bool // and that is, in part, of the target
}

// squidRule is a line of an access list.
type squidRule struct {
	line  int
	allow bool
	acls  []string // all must match; ! before a name negates it
	lost  bool
}

// squidOther are directives that decide where requests go and have no counterpart.
var squidOther = []string{"cache_peer_domain", "neighbor_type_domain", "tcp_outgoing_address", "tcp_outgoing_tos", "include", "url_rewrite_program", "prefer_direct"}

// convertSquid makes members of peers, and routes of the dstdomain and dst lists that decide
// which peers may be asked.
func convertSquid(d *document, s Source) error {
	q := &squid{document: d, acls: map[string]*squidACL{"all": {all: true}}, pools: map[string]string{}}
	for _, l := range squidLines(s.Text) {
		q.line(l.number, l.words)
	}
	if len(q.peers) == 0 {
		return errNothing(d.source, d.losses)
	}
	d.head = append(d.head, "Who may connect to proxyd is written under listen: http_port, http_access and auth_param are not read.")
	q.decide()
	return nil
}

type squidLine struct {
	number int
	words  []string
}

// squidLines returns the lines of a configuration in words, continued ones as one.
func squidLines(text []byte) (list []squidLine) {
	n, first, joined := 0, 0, ""
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimRight(line, "\r\n"); joined == "" {
			first = n
		}
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		if rest, more := strings.CutSuffix(line, `\`); more {
			joined += rest + " "
			continue
		}
		if line = joined + line; strings.Contains(line, " #") {
			line, _, _ = strings.Cut(line, " #")
		}
		joined = ""
		if words := strings.Fields(line); len(words) > 0 {
			list = append(list, squidLine{first, words})
		}
	}
	return list
}

func (q *squid) line(n int, words []string) {
	switch args := words[1:]; words[0] {
	case "cache_peer":
		q.peer(n, args)
	case "acl":
		if len(args) >= 2 {
			q.acl(n, args[0], args[1], args[2:])
		}
	case "cache_peer_access":
		if len(args) < 2 {
			return
		}
		i := slices.IndexFunc(q.peers, func(p *squidPeer) bool { return p.name == args[0] })
		if i < 0 {
			q.routeComment(q.lose(n, "cache_peer_access of a peer that is not carried over"))
			return
		}
		q.peers[i].access = append(q.peers[i].access, q.rule(n, args[1:]))
	case "always_direct":
		q.always = append(q.always, q.rule(n, args))
	case "never_direct":
		q.never = append(q.never, q.rule(n, args))
	default:
		if slices.Contains(squidOther, words[0]) {
			q.routeComment(q.lose(n, "%s", words[0]))
		}
	}
}

// squidKnown are options of peers that are read, or that change nothing for proxyd.
var squidKnown = strings.Fields("name login default round-robin weighted-round-robin carp userhash sourcehash weight max-conn tls ssl sslflags tls-default-ca ssldomain tls-domain " +
	"no-query no-digest no-netdb-exchange no-delay proxy-only allow-miss connect-timeout connect-fail-limit background-ping closest-only standby basetime ttl htcp forceddomain no-tproxy auth-no-keytab")

// squidOptions are others.
var squidOptions = strings.Fields("sslcert sslkey sslversion sslcipher ssloptions sslcafile sslcapath sslcrlfile tls-cert tls-key tls-cafile tls-capath tls-crlfile tls-min-version tls-cipher tls-options " +
	"front-end-https connection-auth multicast-responder multicast-siblings digest-url monitorurl monitorsize monitorinterval monitortimeout htcp-oldsquid no-netdb")

// peer reads a cache_peer: host, type, port, ICP port, options.
func (q *squid) peer(n int, args []string) {
	lost := func(format string, a ...any) { q.poolComment(q.lose(n, "cache_peer: "+format, a...)) }
	if len(args) < 4 {
		lost("it has no host, type, port and ICP port")
		return
	}
	p := &squidPeer{line: n, name: args[0], options: map[string]string{}}
	for _, o := range args[4:] {
		key, value, _ := strings.Cut(o, "=")
		p.options[key] = value
		switch {
		case slices.Contains(squidKnown, key), key == "originserver":
		case slices.Contains(squidOptions, key):
			lost("its option %s", key)
		default: // it may be a credential in the wrong place
			lost("one of its options")
		}
	}
	p.name = cmp.Or(p.options["name"], p.name)
	_, origin := p.options["originserver"]
	user, password, why := squidLogin(p.options["login"])
	switch {
	case args[1] != "parent":
		lost("it is no parent")
		return
	case origin:
		lost("it is a server, no proxy")
		return
	case why != "":
		lost("%s", why)
	}
	u, why := proxyURL(p.scheme(), args[0], args[2], user, password)
	if why != "" {
		lost("%s", why)
		return
	}
	p.member = member{url: u, label: p.name}
	if p.options["name"] != "" {
		p.member.name = q.members.free(p.name, "peer")
	}
	for _, what := range p.settings() {
		lost("%s", what)
	}
	q.peers = append(q.peers, p)
}

// scheme returns the scheme that a peer's options say.
func (p *squidPeer) scheme() string {
	for _, key := range []string{"tls", "ssl"} {
		if _, ok := p.options[key]; ok {
			return "https"
		}
	}
	return "http"
}

// settings takes limit, weight and TLS of the member from the options, and returns what
// of them is not carried over.
func (p *squidPeer) settings() (lost []string) {
	if most, err := strconv.Atoi(p.options["max-conn"]); err == nil && most > 0 && most < 1_000_000 {
		p.member.most = strconv.Itoa(most)
	}
	switch w, err := strconv.Atoi(p.options["weight"]); {
	case err == nil && w > 100:
		lost = append(lost, "its weight, which is more than 100")
	case err == nil && w > 1:
		p.member.weight = strconv.Itoa(w)
	}
	if p.member.url.Scheme == config.SchemeHTTPS {
		p.member.insecure = strings.Contains(p.options["sslflags"], "DONT_VERIFY_PEER")
		var ok bool
		if p.member.server, ok = serverName(p.options["ssldomain"]); !ok {
			lost = append(lost, "its ssldomain, which is no host name")
		}
	}
	return lost
}

// squidLogin returns the credentials of login=; why says that they are not in the file.
func squidLogin(text string) (user, password, why string) {
	switch {
	case text == "":
		return "", "", ""
	case text == "PASS", text == "PASSTHRU", text == "NEGOTIATE", strings.HasPrefix(text, "NEGOTIATE:"), strings.HasPrefix(text, "*:"):
		return "", "", "its login is that of the client"
	}
	user, password, _ = strings.Cut(text, ":")
	for _, s := range []*string{&user, &password} {
		decoded, err := url.PathUnescape(strings.ReplaceAll(*s, "%%", "%25"))
		if err != nil {
			return "", "", "its login has a percent sign that is not followed by two hex digits"
		}
		*s = decoded
	}
	return user, password, ""
}

// acl reads a line of an acl. Those of names and addresses are known.
func (q *squid) acl(n int, name, kind string, values []string) {
	a := q.acls[name]
	if a == nil {
		a = &squidACL{}
		q.acls[name] = a
	}
	for _, v := range values {
		var p target.Pattern
		var err error
		switch {
		case strings.HasPrefix(v, "-"):
			continue
		case strings.HasPrefix(v, `"`):
			a.unknown, a.named = true, a.named || squidNames(kind)
			continue
		case kind == "dstdomain" && strings.HasPrefix(v, "."):
			p, err = target.ParsePattern("*" + v)
		case kind == "dstdomain":
			p, err = target.ParsePattern(v)
		case kind == "dst" && v == "all", kind == "src" && slices.Contains(squidEverybody, v):
			a.all = true
			continue
		case kind == "dst":
			if prefix, bad := netip.ParsePrefix(v); bad == nil {
				v = prefix.Masked().String()
			}
			p, err = target.ParsePattern(v)
			if err == nil && p.Kind != target.CIDR {
				a.unknown, a.named = true, true
				continue
			}
		default:
			a.unknown, a.named = true, a.named || squidNames(kind)
			return
		}
		if err != nil {
			a.unknown, a.named = true, true
			continue
		}
		a.patterns = append(a.patterns, p)
	}
}

// squidEverybody are the values of an acl src that all clients match.
var squidEverybody = []string{"all", "0/0", "0.0.0.0/0", "0.0.0.0/0.0.0.0", "::/0"}

// squidNames reports whether acls of a kind ask for the target, not for the client, the
// method or the time alone.
func squidNames(kind string) bool {
	return !slices.Contains([]string{"src", "srcdomain", "srcdom_regex", "arp", "eui64", "myip", "myport", "myportname", "localip", "localport", "peername", "port", "proto", "method", "time", "browser", "referer_regex",
		"proxy_auth", "proxy_auth_regex", "ident", "ident_regex", "maxconn", "max_user_ip", "ext_user", "random", "req_header", "user_cert"}, kind)
}

// rule reads "allow|deny ACL…". One with an acl that proxyd does not know is lost.
func (q *squid) rule(n int, args []string) squidRule {
	r := squidRule{line: n}
	if len(args) > 0 {
		r.allow, r.acls = args[0] == "allow", args[1:]
	}
	for _, name := range r.acls {
		a := q.acls[strings.TrimPrefix(name, "!")]
		if a == nil || a.unknown {
			r.lost = true
			q.routeComment(q.lose(n, "a rule of the acl %s, which is not one of names or addresses alone", strings.TrimPrefix(name, "!")))
			break
		}
	}
	return r
}
