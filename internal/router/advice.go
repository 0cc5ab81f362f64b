package router

import (
	"slices"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

// howToList returns what to write so that the default no longer refuses the
// hosts of an exchange ("" for hosts of none).
func (b *builder) howToList(exchange string, k catalog.Kind) string {
	entry := b.entries[exchange]
	switch {
	case exchange == "":
		return "list it under exchanges, as http or websocket, such as my_venue: {hosts: {websocket: [HOST]}, pool: " + b.firstPool() + "}, or under routes"
	case entry != nil: // it may have hosts alone; the same key twice would be an error
		word := "direct"
		if w, ok := outboundWord(b.config, entry.Outbounds.Of(otherKind(k))); ok && w != "reject" {
			word = w
		}
		return `add "` + k.String() + ": " + word + `" to exchanges.` + exchange
	}
	for i := range b.config.Exchanges {
		p := &b.config.Exchanges[i]
		peer := p.ID
		if x, _ := b.config.Known().Get(peer); !slices.Contains(x.Family, exchange) || p.Outbounds.Of(k) == nil || p.Outbounds.Of(k).Action == config.Reject {
			continue
		}
		if word, ok := outboundsWord(b.config, p.Outbounds); ok {
			return `add "` + exchange + ": " + word + `" under exchanges: ` + peer + ", of the same family, has it"
		}
		return "add " + exchange + " under exchanges, with the outbound that " + peer + ", of the same family, has"
	}
	return `add "` + exchange + `: direct" (or a pool, or a proxy's URL) under exchanges`
}

// firstPool returns the name of the first pool of the file, for an example.
func (b *builder) firstPool() string {
	for i := range b.config.Pools {
		if !b.config.Pools[i].Inline {
			return b.config.Pools[i].Name
		}
	}
	return "POOL"
}

// outboundWord returns an outbound as it is written. It reports false for one
// that is not set, and for an inline URL or pool, which may hold credentials.
func outboundWord(c *config.Config, w *config.Outbound) (word string, ok bool) {
	switch {
	case w == nil:
		return "", false
	case w.Action == config.Direct:
		return "direct", true
	case w.Action == config.Reject:
		return "reject", true
	}
	for i := range c.Pools {
		if c.Pools[i].Name == w.Pool {
			return w.Pool, !c.Pools[i].Inline
		}
	}
	return w.Pool, true
}

// outboundsWord returns the outbounds of both kinds as they are written.
func outboundsWord(c *config.Config, o config.Outbounds) (string, bool) {
	h, okH := outboundWord(c, o.HTTP)
	w, okW := outboundWord(c, o.Websocket)
	switch {
	case okH && okW && h == w:
		return h, true
	case okH && okW:
		return "{http: " + h + ", websocket: " + w + "}", true
	case okH && o.Websocket == nil:
		return "{http: " + h + "}", true
	case okW && o.HTTP == nil:
		return "{websocket: " + w + "}", true
	}
	return "", false
}
