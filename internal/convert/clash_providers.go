package convert

import (
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"
)

// clashProvider is an entry of proxy-providers: a list of proxies outside of the file.
type clashProvider struct {
	name    string
	proxies []string // as in clash.proxies
	why     string   // they are not known; "" if they are
}

// readProviders reads the proxies of providers that are files beside the source, or
// stand within it. read is nil if there are no files.
func (c *clash) readProviders(n *yaml.Node, read func(path string) ([]byte, error)) {
	for _, name := range keys(n) {
		entry := get(n, name)
		p := &clashProvider{name: name}
		c.providers = append(c.providers, p)
		var list []*yaml.Node
		if list, p.why = provided(entry, read); p.why != "" {
			continue
		}
		for _, x := range list {
			called := text(x, "name")
			if called == "" {
				continue
			}
			if c.proxies[called] != nil {
				called += " (" + name + ")"
			}
			if c.proxies[called] != nil {
				continue
			}
			x.Line = entry.Line // that of the source
			c.proxy(x, called)
			p.proxies = append(p.proxies, called)
		}
	}
}

// provided returns the proxies of a provider, or why they are not known.
func provided(n *yaml.Node, read func(path string) ([]byte, error)) (list []*yaml.Node, why string) {
	for _, key := range []string{"override", "filter", "exclude-filter", "exclude-type", "dialer-proxy"} {
		if get(n, key) != nil {
			return nil, "its " + key
		}
	}
	path := text(n, "path")
	switch kind := text(n, "type"); {
	case kind == "inline":
		return items(n, "payload"), ""
	case kind != "file":
		return nil, "what it downloads; save it as a list, and name it as the pool's list"
	case read == nil:
		return nil, "its file; give proxyd import the name of the source, not its text, so that it finds the file"
	case !filepath.IsLocal(path):
		return nil, "its file, which is not in the folder of the source or below it; copy it there"
	}
	text, err := read(path)
	if err != nil {
		return nil, "its file, which cannot be read"
	}
	root, err := parseYAML(text)
	if err != nil || items(root, "proxies") == nil {
		return nil, "its file, which has no proxies in YAML"
	}
	return items(root, "proxies"), ""
}

// used returns the providers of a group: all of them, or those that it names.
func (c *clash) used(g *clashGroup, all bool) (list []*clashProvider) {
	if all || truth(g.node, "include-all-providers") {
		return c.providers
	}
	for _, name := range words(g.node, "use") {
		if i := slices.IndexFunc(c.providers, func(p *clashProvider) bool { return p.name == name }); i >= 0 {
			list = append(list, c.providers[i])
		} else {
			list = append(list, &clashProvider{name: name, why: "there is none of that name"})
		}
	}
	return list
}

// all returns the names of all proxies.
func (c *clash) all() []string {
	list := slices.Clone(c.order)
	for _, p := range c.providers {
		list = append(list, p.proxies...)
	}
	return list
}
