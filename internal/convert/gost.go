package convert

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
)

// gost makes pools of the chains of a gost command line, of its JSON or of its YAML.
// The last hop of a chain has the upstreams, and each is reached via the hop before.
func (d *document) gost(s Source) error {
	var chains []chain
	if root, err := parseYAML(s.Text); err == nil && (get(root, "services") != nil || get(root, "chains") != nil || get(root, "hops") != nil) {
		chains = d.gostYAML(root)
	} else if err == nil && (get(root, "ChainNodes") != nil || get(root, "ServeNodes") != nil || get(root, "Routes") != nil) {
		chains = d.gostJSON(root)
	} else {
		chains = d.gostCommands(s.Text)
	}
	for i, c := range chains {
		out := d.chain(c)
		switch {
		case i == 0:
			d.def = out
		case out != d.def:
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
	line int
	name string
	hops []hop
}

// hop is one step of a chain. Lost nodes leave a comment.
type hop struct {
	name     string
	strategy string
	entries  []entry
}

// chain makes a pool of each hop. A hop without a node that can be carried over makes
// the whole chain unusable: what it would carry is rejected.
func (d *document) chain(c chain) (out string) {
	via := ""
	for i, h := range c.hops {
		p := &pool{doc: d, strategy: h.strategy, via: via, entries: h.entries}
		if p.members() == 0 {
			for _, e := range h.entries {
				d.poolComment(e.comment)
			}
			d.defNotes = append(d.defNotes, d.lose(c.line, "chain %s: hop %d has no node that is usable; all is rejected", c.name, i+1))
			return "reject"
		}
		name := h.name
		if name == "" {
			name = c.name
			if len(c.hops) > 1 && i+1 < len(c.hops) {
				name = fmt.Sprintf("%s-hop-%d", c.name, i+1)
			}
		}
		p.name = d.names.free(name, "chain")
		d.pools = append(d.pools, p)
		via = p.name
	}
	return via
}

// gostCommands reads the -F flags of command lines, and URLs alone on their lines.
func (d *document) gostCommands(text []byte) (chains []chain) {
	var bare hop
	for _, l := range squidLines([]byte(strings.ReplaceAll(string(text), "\\\r\n", "\\\n"))) {
		var hops []hop
		command := false
		words := unquoteWords(l.words)
		for i := 0; i < len(words); i++ {
			node, flag := strings.CutPrefix(words[i], "-F")
			switch {
			case strings.HasPrefix(words[i], "-L"):
				command = true
				continue
			case !flag:
				continue
			}
			command = true
			if node = strings.TrimPrefix(node, "="); node == "" && i+1 < len(words) {
				i++
				node = words[i]
			}
			hops = append(hops, d.gostNode(l.number, node))
		}
		switch {
		case len(hops) > 0:
			chains = append(chains, chain{l.number, "gost", hops})
		case !command && len(words) == 1 && strings.Contains(words[0], "://"):
			bare.entries = append(bare.entries, d.gostNode(l.number, words[0]).entries...)
		}
	}
	if len(bare.entries) > 0 {
		chains = append(chains, chain{0, "gost", []hop{bare}})
	}
	return chains
}

// unquoteWords joins words that quotes hold together, and removes the quotes.
func unquoteWords(words []string) (list []string) {
	open, joined := byte(0), ""
	for _, w := range words {
		var out strings.Builder
		for i := 0; i < len(w); i++ {
			switch c := w[i]; {
			case open != 0 && c == open:
				open = 0
			case open == 0 && (c == '"' || c == '\''):
				open = c
			default:
				out.WriteByte(c)
			}
		}
		if joined += out.String(); open != 0 {
			joined += " "
			continue
		}
		list, joined = append(list, joined), ""
	}
	if joined != "" {
		list = append(list, joined)
	}
	return list
}

func (d *document) gostJSON(root *yaml.Node) (chains []chain) {
	read := func(n *yaml.Node) {
		var hops []hop
		for _, x := range items(n, "ChainNodes") {
			hops = append(hops, d.gostNode(x.Line, x.Value))
		}
		if len(hops) > 0 {
			chains = append(chains, chain{n.Line, "gost", hops})
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

// gostNode reads the URL of a node: [scheme://][user:password@]host:port[?options].
func (d *document) gostNode(line int, text string) (h hop) {
	lost := func(format string, args ...any) {
		h.entries = append(h.entries, entry{comment: d.lose(line, "node: "+format, args...)})
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "", text
	}
	known, ok := gostSchemes[strings.ToLower(scheme)]
	if !ok {
		lost("%s", gostProtocol(scheme))
		return h
	}
	rest, query, _ := strings.Cut(rest, "?")
	auth, address := "", strings.TrimSuffix(rest, "/")
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		auth, address = address[:i], address[i+1:]
	}
	user, password, _ := strings.Cut(auth, ":")
	user, err1 := url.PathUnescape(user)
	password, err2 := url.PathUnescape(password)
	options, err3 := url.ParseQuery(query)
	if err1 != nil || err2 != nil || err3 != nil {
		lost("its URL has a percent sign that is not followed by two hex digits")
		return h
	}
	if known == "https" && options.Get("secure") == "" {
		d.note("%s", unverified)
	}
	addresses := []string{address}
	for key := range options {
		value := options.Get(key)
		switch key {
		case "auth":
			if raw, err := base64.StdEncoding.DecodeString(value); err == nil {
				user, password, _ = strings.Cut(string(raw), ":")
			} else {
				lost("its option auth")
			}
		case "ip":
			addresses = nil
			for a := range strings.SplitSeq(value, ",") {
				if _, _, err := net.SplitHostPort(a); err != nil {
					_, port, _ := net.SplitHostPort(address)
					a = net.JoinHostPort(strings.Trim(a, "[]"), port)
				}
				addresses = append(addresses, a)
			}
		case "strategy":
			if h.strategy = gostStrategies[value]; h.strategy == "" {
				lost("its strategy")
			}
		case "secure", "timeout", "max_fails", "fail_timeout", "udp", "notls":
		default:
			if !slices.Contains(gostOptions, key) {
				key = "that proxyd does not know"
			}
			lost("its option %s", key)
		}
	}
	for _, a := range addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			lost("it has no host or no port")
			continue
		}
		u, why := proxyURL(known, host, port, user, password)
		if why != "" {
			lost("%s", why)
			continue
		}
		h.entries = append(h.entries, entry{member: &member{url: u, insecure: known == "https" && options.Get("secure") == "false"}})
	}
	return h
}
