package convert

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds what aliases may expand a file to.
const maxNodes = 1_000_000

// parseYAML returns the mapping that a file holds. The error quotes nothing of it.
func parseYAML(text []byte) (*yaml.Node, error) {
	var doc yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc)
	switch {
	case err != nil:
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			return nil, fmt.Errorf("line %s: the file is no valid YAML", m[1])
		}
		return nil, errors.New("the file is no valid YAML")
	case len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode:
		return nil, errors.New("the file is no YAML mapping")
	}
	return doc.Content[0], nil
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// resolved returns what an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	for i := 0; n != nil && n.Kind == yaml.AliasNode && i < 8; i++ {
		n = n.Alias
	}
	return n
}

// get returns the value of a key, nil if there is none. Merged mappings count.
func get(n *yaml.Node, key string) *yaml.Node { return getWithin(n, key, 4) }

func getWithin(n *yaml.Node, key string, depth int) *yaml.Node {
	if n = resolved(n); n == nil || n.Kind != yaml.MappingNode || depth == 0 {
		return nil
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch k := n.Content[i]; {
		case k.Value == key:
			return resolved(n.Content[i+1])
		case k.Tag == "!!merge":
			merged = append(merged, n.Content[i+1])
		}
	}
	for _, m := range merged {
		if m = resolved(m); m != nil && m.Kind == yaml.SequenceNode {
			for _, x := range m.Content {
				if v := getWithin(x, key, depth-1); v != nil {
					return v
				}
			}
		} else if v := getWithin(m, key, depth-1); v != nil {
			return v
		}
	}
	return nil
}

// text returns the text of a key's value, "" if it is none.
func text(n *yaml.Node, key string) string {
	if v := get(n, key); v != nil && v.Kind == yaml.ScalarNode && v.ShortTag() != "!!null" {
		return v.Value
	}
	return ""
}

func truth(n *yaml.Node, key string) bool { return strings.EqualFold(text(n, key), "true") }

// items returns the items of a list, nil if there is none.
func items(n *yaml.Node, key string) (list []*yaml.Node) {
	v := get(n, key)
	if v == nil || v.Kind != yaml.SequenceNode {
		return nil
	}
	for _, x := range v.Content {
		if len(list) == maxNodes {
			break
		}
		list = append(list, resolved(x))
	}
	return list
}

// words returns the texts of a list of scalars; of one scalar, that.
func words(n *yaml.Node, key string) (list []string) {
	if s := text(n, key); s != "" {
		return []string{s}
	}
	for _, x := range items(n, key) {
		if x != nil && x.Kind == yaml.ScalarNode {
			list = append(list, x.Value)
		}
	}
	return list
}

// keys returns the keys of a mapping, merged ones left out.
func keys(n *yaml.Node) (list []string) {
	if n = resolved(n); n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		list = append(list, n.Content[i].Value)
	}
	return list
}
