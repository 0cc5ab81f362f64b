//go:build interop

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// client is a library, and the programs that use it: a file of interop/clients.
type client struct {
	id       string // the file's name
	name     string // with its version, as the tables show it
	language string
	venv     string // Python: which of the environments
	order    int    // its row in the tables
	// environ says that the documented line takes the proxy from the environment.
	environ    bool
	reconnects bool
	missing    map[string]string // why a part does not exist
	parts      map[string]string
}

var languages = []string{"curl", "python", "node", "go", "rust", "java"}

// The parts of a file.
var clientParts = []string{"rest", "websocket", "rest line", "websocket line", "rest socks", "websocket socks", "feed"}

// parseClient reads a file: lines "key: value", then parts that begin with "-- NAME --".
func parseClient(id, text string) (*client, error) {
	c := &client{id: id, parts: map[string]string{}, missing: map[string]string{}}
	part := ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(trimmed, "-- "); ok && strings.HasSuffix(name, " --") {
			part = strings.TrimSuffix(name, " --")
			if !slices.Contains(clientParts, part) || c.parts[part] != "" {
				return nil, fmt.Errorf("%s: part %q: unknown, or there twice", id, part)
			}
			continue
		}
		if part != "" {
			c.parts[part] += line
			continue
		}
		if trimmed = strings.TrimSpace(strings.TrimLeft(trimmed, "#/")); trimmed == "" {
			continue
		}
		if err := c.set(trimmed); err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
	}
	switch {
	case c.name == "" || !slices.Contains(languages, c.language):
		return nil, fmt.Errorf("%s: needs name, and language out of %v", id, languages)
	case c.language == "python" && c.venv == "":
		c.venv = "main"
	}
	return c, nil
}

func (c *client) set(line string) (err error) {
	key, value, ok := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	if part, no := strings.CutPrefix(key, "no "); no && slices.Contains(clientParts, part) {
		c.missing[part] = value
		return nil
	}
	switch key {
	case "name":
		c.name = value
	case "language":
		c.language = value
	case "venv":
		c.venv = value
	case "order":
		c.order, err = strconv.Atoi(value)
	case "reconnects":
		c.reconnects = value == "yes"
	case "environment":
		c.environ = value == "line"
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("unknown line %q before the first part", line)
	}
	return err
}

// readClients returns all clients in the order of the tables.
func readClients(t *testing.T) (list []*client) {
	t.Helper()
	files, err := filepath.Glob("interop/clients/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no clients: %v", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseClient(strings.TrimSuffix(filepath.Base(f), ".txtar"), string(text))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b *client) int { return a.order - b.order })
	return list
}

// program returns the part that a column runs, and "" if there is none. Where a
// library takes the environment as it is, that is its documented form.
func (c *client) program(kind, column string) (part string, environ bool) {
	part = kind
	switch column {
	case "environment":
		environ = true
	case "socks":
		part, environ = kind+" socks", c.environ
	case "exec", "isolate":
	case "outage":
		part, environ = "feed", c.environ || c.parts[kind+" line"] == ""
	default: // the documented form
		if c.missing[kind+" line"] != "" {
			return "", false
		}
		if part, environ = kind+" line", c.environ; c.parts[part] == "" {
			part, environ = kind, true
		}
	}
	if c.parts[part] == "" {
		return "", false
	}
	return part, environ
}

// command writes a part's program into a directory, and returns how it is run.
func (c *client) command(t *testing.T, part, in string) (argv []string) {
	t.Helper()
	home := os.Getenv("CLIENTS_DIR")
	write := func(name string) string {
		path := filepath.Join(in, name)
		if err := os.WriteFile(path, []byte(c.parts[part]), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	switch c.language {
	case "python":
		return []string{filepath.Join(home, "venv-"+c.venv, "bin", "python"), write("app.py")}
	case "node":
		if err := os.Symlink(filepath.Join(home, "node", "node_modules"), filepath.Join(in, "node_modules")); err != nil {
			t.Fatal(err)
		}
		return []string{os.Getenv("CLIENTS_NODE"), write("app.mjs")}
	case "curl":
		return []string{"sh", "-e", write("app.sh")}
	default: // built before, with all its parts
		return []string{filepath.Join(os.Getenv("CLIENTS_BUILT"), c.id), part}
	}
}
