package health

import (
	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// membersInUse are the members that something leads to: a way of the
// configuration, or one whose hop before they are.
func membersInUse(r *router.Router) map[*upstream.Upstream]bool {
	c, set := r.Config(), r.Set()
	used := map[*upstream.Upstream]bool{}
	for _, m := range set.Direct().Members() {
		used[m.Upstream] = true
	}
	pools := map[string]config.Pool{}
	for _, p := range c.Pools {
		pools[p.Name] = p
	}
	seen := map[string]bool{}
	var add func(w *config.Outbound)
	add = func(w *config.Outbound) {
		if w == nil || w.Action != config.Use || seen[w.Pool] {
			return
		}
		seen[w.Pool] = true
		for _, m := range set.Pool(w.Pool).Members() {
			if m.Enabled {
				used[m.Upstream] = true
			}
		}
		for _, m := range pools[w.Pool].Proxies {
			if m.Enabled {
				add(m.Via)
			}
		}
	}
	if c.Enabled {
		for _, w := range ways(c) {
			add(w)
		}
	}
	return used
}

// ways are all that a configuration sends anything, those that are not set
// among them.
func ways(c *config.Config) []*config.Outbound {
	list := []*config.Outbound{c.Default.HTTP, c.Default.Websocket}
	for i := range c.Exchanges {
		list = append(list, c.Exchanges[i].Outbounds.HTTP, c.Exchanges[i].Outbounds.Websocket)
	}
	for i := range c.Routes {
		list = append(list, &c.Routes[i].Outbound)
	}
	for i := range c.Listen {
		list = append(list, c.Listen[i].Use)
	}
	return list
}
