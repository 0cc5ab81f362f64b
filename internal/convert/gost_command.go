package convert

import (
	"strings"
)

// commands reads the -F flags of command lines, and URLs alone on their lines.
func (g gost) commands(text []byte) (chains []chain) {
	var bare hop
	for _, l := range squidLines([]byte(strings.ReplaceAll(string(text), "\\\r\n", "\\\n"))) {
		var hops []hop
		var service *bypass
		services := 0
		command := false
		words := unquoteWords(l.words)
		for i := 0; i < len(words); i++ {
			node, flag := strings.CutPrefix(words[i], "-F")
			switch {
			case strings.HasPrefix(words[i], "-L"):
				command = true
				services++
				if _, query, _ := strings.Cut(words[i], "?"); strings.Contains(query, "bypass=") {
					service = g.serviceBypass(l.number, query)
				}
				continue
			case !flag:
				continue
			}
			command = true
			if node = strings.TrimPrefix(node, "="); node == "" && i+1 < len(words) {
				i++
				node = words[i]
			}
			hops = append(hops, g.node(l.number, node))
		}
		if service != nil && services > 1 {
			service = nil
			g.routeComment(g.lose(l.number, "the bypass of one of several services"))
		}
		switch {
		case len(hops) > 0:
			chains = append(chains, chain{l.number, "gost", hops, service})
		case !command && len(words) == 1 && strings.Contains(words[0], "://"):
			bare.entries = append(bare.entries, g.node(l.number, words[0]).entries...)
		}
	}
	if len(bare.entries) > 0 {
		chains = append(chains, chain{0, "gost", []hop{bare}, nil})
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
