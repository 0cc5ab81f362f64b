package convert

import (
	"strings"
)

// commands reads the -F flags of command lines, and URLs alone on their lines.
func (g gost) commands(text []byte) (chains []chain) {
	var bare hop
	for _, l := range squidLines([]byte(strings.ReplaceAll(string(text), "\\\r\n", "\\\n"))) {
		var hops []hop
		var services []string
		words := unquoteWords(l.words)
		for i := 0; i < len(words); i++ {
			flag, value := words[i][:min(2, len(words[i]))], ""
			if flag != "-F" && flag != "-L" {
				continue
			}
			if value = strings.TrimPrefix(words[i][2:], "="); value == "" && i+1 < len(words) {
				i++
				value = words[i]
			}
			if flag == "-L" {
				services = append(services, value)
			} else {
				hops = append(hops, g.node(l.number, value))
			}
		}
		switch {
		case len(hops) > 0:
			chains = append(chains, chain{l.number, "gost", hops, g.serviceBypass(l.number, services)})
		case len(services) == 0 && len(words) == 1 && strings.Contains(words[0], "://"):
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
