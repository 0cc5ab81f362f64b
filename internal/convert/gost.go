package convert

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
)

// gost is a gost command line or configuration.
type gost struct{ *document }

// convertGost makes pools of the chains of a gost command line, of its JSON or of its YAML.
// The last hop of a chain has the upstreams, and each is reached via the hop before.
func convertGost(d *document, s Source) error {
	g := gost{d}
	var chains []chain
	if root, err := parseYAML(s.Text); err == nil && (get(root, "services") != nil || get(root, "chains") != nil || get(root, "hops") != nil) {
		chains = g.yaml(root)
	} else if err == nil && (get(root, "ChainNodes") != nil || get(root, "ServeNodes") != nil || get(root, "Routes") != nil) {
		chains = g.json(root)
	} else {
		chains = g.commands(s.Text)
	}
	first := ""
	for i, c := range chains {
		out, before := g.chain(c)
		switch {
		case i == 0:
			d.def, first = g.bypassed(c, before, out), out
		case out != first:
			if c.bypass != nil || slices.ContainsFunc(c.hops, func(h hop) bool { return h.bypass != nil }) {
				d.defNotes = append(d.defNotes, d.lose(c.line, "the bypass of the second chain %s", out))
			}
			d.defNotes = append(d.defNotes, d.lose(c.line, "gost serves a second chain, %s; for a listener of its own: listen: [{address: ..., use: %s}]", out, out))
		}
	}
	if d.def == "" {
		return errNothing(d.source, d.losses)
	}
	return nil
}

// chain is hops in the order in which they are passed.
type chain struct {
	line   int
	name   string
	hops   []hop
	bypass *bypass // of the service
}

// hop is one step of a chain. Lost nodes leave a comment.
type hop struct {
	name     string
	strategy string
	entries  []entry
	bypass   *bypass
}

// chain makes a pool of each hop. A hop without a node that can be carried over makes
// the whole chain unusable: what it would carry is rejected, and before is nil. Else it
// holds, for each hop, what is reached without it.
func (g gost) chain(c chain) (out string, before []string) {
	via := ""
	for i, h := range c.hops {
		p := &pool{doc: g.document, strategy: h.strategy, via: via, entries: h.entries}
		if p.members() == 0 {
			for _, e := range h.entries {
				g.poolComment(e.comment)
			}
			g.defNotes = append(g.defNotes, g.lose(c.line, "chain %s: hop %d has no node that is usable; all is rejected", c.name, i+1))
			return "reject", nil
		}
		before = append(before, cmp.Or(via, "direct"))
		name := h.name
		if name == "" {
			name = c.name
			if len(c.hops) > 1 && i+1 < len(c.hops) {
				name = fmt.Sprintf("%s-hop-%d", c.name, i+1)
			}
		}
		p.name = g.names.free(name, "chain")
		g.pools = append(g.pools, p)
		via = p.name
	}
	return via, before
}

func (g gost) json(root *yaml.Node) (chains []chain) {
	read := func(n *yaml.Node) {
		var hops []hop
		for _, x := range items(n, "ChainNodes") {
			hops = append(hops, g.node(x.Line, x.Value))
		}
		if len(hops) > 0 {
			chains = append(chains, chain{n.Line, "gost", hops, g.serviceBypass(n.Line, words(n, "ServeNodes"))})
		}
	}
	read(root)
	for _, n := range items(root, "Routes") {
		read(n)
	}
	return chains
}

// gostSchemes are the protocols of nodes that proxyd speaks.
var gostSchemes = map[string]string{
	"": "http", "http": "http", "https": "https", "http+tls": "https", "socks": "socks5", "socks5": "socks5", "socks5h": "socks5h", "socks4": "socks4", "socks4a": "socks4a",
}

// unverified is a note.
const unverified = "gost accepts any certificate of an https proxy unless told otherwise, and proxyd none that is not valid: see tls.ca_file and tls.insecure"

// gostStrategies are the strategies of a node with several addresses.
var gostStrategies = map[string]string{
	"": string(config.RoundRobin), "round": string(config.RoundRobin), "random": string(config.Random), "rand": string(config.Random),
	"fifo": string(config.Failover), "hash": string(config.Hash),
}

var (
	gostProtocols = strings.Fields("http http2 http3 h2 h2c h3 masque socks4 socks4a socks5 socks5h socks relay forward ss ssu ss2 sni ssh sshd tls mtls dtls ws wss mws mwss quic kcp pht phts grpc obfs4 ohttp otls icmp redirect tcp udp auto utls")
	gostOptions   = strings.Fields("bypass probe_resist knock peer ttl keepalive mbind compression cipher path host serverName ca cert key interface so_mark resolver hosts dns prefer nodelay user-agent mux tls connector dialer")
)

// gostProtocol returns what is said of a protocol that proxyd does not speak. What is
// none may be a credential in the wrong place.
func gostProtocol(scheme string) string {
	for part := range strings.SplitSeq(strings.ToLower(scheme), "+") {
		if !slices.Contains(gostProtocols, part) {
			return "its protocol"
		}
	}
	return "its protocol " + strings.ToLower(scheme)
}

// gostURL is the URL of a node: [scheme://][user:password@]host:port[?options].
type gostURL struct {
	scheme, user, password string
	address                string
	addresses              []string // that the option ip gives in its place
	options                url.Values
}

// parseGostURL returns the parts of a node's URL; why says what of it is not carried over.
func parseGostURL(text string) (u gostURL, why string) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "", text
	}
	if u.scheme, ok = gostSchemes[strings.ToLower(scheme)]; !ok {
		return u, gostProtocol(scheme)
	}
	rest, query, _ := strings.Cut(rest, "?")
	auth := ""
	u.address = strings.TrimSuffix(rest, "/")
	if i := strings.LastIndexByte(u.address, '@'); i >= 0 {
		auth, u.address = u.address[:i], u.address[i+1:]
	}
	user, password, _ := strings.Cut(auth, ":")
	var errs [3]error
	u.user, errs[0] = url.PathUnescape(user)
	u.password, errs[1] = url.PathUnescape(password)
	u.options, errs[2] = url.ParseQuery(query)
	if errors.Join(errs[:]...) != nil {
		return u, "its URL has a percent sign that is not followed by two hex digits"
	}
	u.addresses = []string{u.address}
	return u, ""
}

// option takes the value of an option, and returns what is not carried over, "" for nothing.
func (u *gostURL) option(h *hop, key, value string) (lost string) {
	switch key {
	case "auth":
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return "its option auth"
		}
		u.user, u.password, _ = strings.Cut(string(raw), ":")
	case "ip":
		u.addresses = nil
		for a := range strings.SplitSeq(value, ",") {
			if _, _, err := net.SplitHostPort(a); err != nil {
				_, port, _ := net.SplitHostPort(u.address)
				a = net.JoinHostPort(strings.Trim(a, "[]"), port)
			}
			u.addresses = append(u.addresses, a)
		}
	case "strategy":
		if h.strategy = gostStrategies[value]; h.strategy == "" {
			return "its strategy"
		}
	case "secure", "timeout", "max_fails", "fail_timeout", "udp", "notls":
	default:
		if !slices.Contains(gostOptions, key) {
			key = "that proxyd does not know"
		}
		return "its option " + key
	}
	return ""
}

// node reads the URL of a node.
func (g gost) node(line int, text string) (h hop) {
	lost := func(what string) {
		h.entries = append(h.entries, entry{comment: g.lose(line, "node: %s", what)})
	}
	u, why := parseGostURL(text)
	if why != "" {
		lost(why)
		return h
	}
	if u.scheme == "https" && u.options.Get("secure") == "" {
		g.note("%s", unverified)
	}
	for _, key := range slices.Sorted(maps.Keys(u.options)) {
		if key == "bypass" {
			if h.bypass = g.commandBypass(line, u.options.Get(key)); h.bypass != nil {
				continue
			}
		}
		if what := u.option(&h, key, u.options.Get(key)); what != "" {
			lost(what)
		}
	}
	for _, a := range u.addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			lost("it has no host or no port")
			continue
		}
		address, why := proxyURL(u.scheme, host, port, u.user, u.password)
		if why != "" {
			lost(why)
			continue
		}
		h.entries = append(h.entries, entry{member: &member{url: address, insecure: u.scheme == "https" && u.options.Get("secure") == "false"}})
	}
	return h
}
