package config

import "regexp"

var fileName = regexp.MustCompile(`\$\{file:([^}\n]+)\}`)

// NamedFiles lists what ${file:…} and catalog name in a file of whatever state, so that a
// watcher sees when one appears that a refused configuration lacked. It reads no
// more than Load would.
func NamedFiles(path string) (names []string) {
	text, _ := readAtMost(path, maxFileSize) // what could be read counts
	for _, m := range fileName.FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	for _, m := range catalogName.FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	return names
}

// catalogName finds the catalogue's file in a configuration that may be faulty.
var catalogName = regexp.MustCompile(`(?m)^catalog:[ \t]+["']?([^"'\s#]+)`)
