package config

import (
	"bytes"
	"net"
	"reflect"
	"strconv"
	"strings"

	"proxyd/internal/config/internal/raw"
)

// AdminOf reads only the key admin, so that commands find the daemon even when
// the rest of the file is invalid. The error concerns the address; other errors
// below admin are ignored, even a token that cannot be read, since none is
// needed on this machine.
func AdminOf(path string, environ []string) (Admin, error) {
	root, s, errs := readTree(path, environ, "admin", &inputs{})
	if root == nil {
		return Admin{}, errs
	}
	shaped := map[string]any{}
	if v := s.value(root.child("admin"), reflect.TypeFor[raw.Admin](), "admin"); v != nil {
		shaped["admin"] = v
	}
	file, err := decode(shaped)
	if err != nil {
		return Admin{}, err
	}
	b := newBuilder(path, environ, Options{}, s, root)
	a := b.admin(file.Admin)
	errs = nil
	for _, f := range append(s.errs, b.errs...) {
		switch {
		case f.Key == "admin.token":
			a.Token = Secret{}
		case f.Key == "admin" || f.Key == "admin.address" || f.Message == unknownKey:
			errs = append(errs, f)
		}
	}
	if len(errs) > 0 {
		return Admin{}, sorted(errs)
	}
	return a, nil
}

// ClientListener is what clients have to know of a listener to reach it.
type ClientListener struct {
	Address   string // "host:port", port 0 for one that the daemon chooses
	TLS, Auth bool   // it speaks TLS; it wants a password
	Use       bool   // all that enters there leaves by one outbound
	Kind      string // the kind of hosts that serve both kinds, "" where none is written
}

// ClientListeners reads only the key listen, in file order and without transparent
// listeners, so that clients find the daemon even when the rest of the file is invalid.
// The error concerns addresses; other errors below listen are ignored, since a running
// daemon keeps its last valid configuration.
func ClientListeners(path string, environ []string) ([]ClientListener, error) {
	root, s, errs := readTree(path, environ, "listen", &inputs{})
	if root == nil {
		return nil, errs
	}
	n := root.child("listen")
	if n == nil || n.kind == null {
		all := make([]ClientListener, len(defaultListen))
		for i, a := range defaultListen {
			all[i].Address = a
		}
		return all, nil
	}
	nodes := []*node{n}
	if n.kind == list {
		nodes = n.items
	}
	all := make([]ClientListener, 0, len(nodes))
	for _, n := range nodes {
		if isTransparent(n) {
			continue
		}
		l, ok := clientListener(n)
		if !ok {
			s.fail(n, "listen", "must be an address", "write it as 127.0.0.1:8877")
			continue
		}
		all = append(all, l)
	}
	switch {
	case len(s.errs) > 0 || len(all) > 0:
	case len(nodes) == 0:
		s.fail(n, "listen", "is an empty list", "name an address, such as 127.0.0.1:8877")
	default:
		s.fail(n, "listen", "has transparent listeners alone, at which no client can be pointed", "add an address, such as 127.0.0.1:8877")
	}
	if len(s.errs) > 0 {
		return nil, sorted(s.errs)
	}
	return all, nil
}

// isTransparent reports whether a listener is for redirected connections.
func isTransparent(n *node) bool {
	if n.kind != mapping {
		return false
	}
	set, err := strconv.ParseBool(textOf(n.child("transparent")))
	return err == nil && set
}

// textOf returns the text of a value, "" if there is none.
func textOf(n *node) string {
	if n == nil || n.kind != scalar {
		return ""
	}
	return n.text
}

// clientListener returns one listener. It reports false if there is no valid
// address.
func clientListener(n *node) (l ClientListener, ok bool) {
	address := n
	if n.kind == mapping {
		set := func(key string) bool { c := n.child(key); return c != nil && c.kind != null }
		l.TLS, l.Auth, l.Use = set("tls"), set("auth"), set("use")
		l.Kind = strings.ToLower(textOf(n.child("kind")))
		if address = n.address(); address == nil {
			return l, false
		}
	}
	if address.kind != scalar {
		return l, false
	}
	ip, port, ok := listenIP(address.text)
	if l.Address = address.text; l.Address == "localhost:"+port {
		l.Address = net.JoinHostPort(ip.String(), port)
	}
	return l, ok
}

// salvage reads one key of a file that is not valid YAML, if the key begins a
// line, with the indented lines below it. If the key occurs nowhere, the result
// is empty; otherwise errs stand.
func salvage(path string, text []byte, key string, errs Errors) (*node, Errors) {
	if !bytes.Contains(bytes.ToLower(text), []byte(key)) {
		return &node{kind: mapping}, nil
	}
	var block strings.Builder // with the lines before it empty, for the positions in errors
	inside, found := false, false
	for line := range strings.Lines(string(text)) {
		indented := strings.TrimSpace(line) == "" || strings.ContainsAny(line[:1], " \t-#")
		starts := len(line) > len(key) && strings.EqualFold(line[:len(key)], key) && line[len(key)] == ':'
		switch {
		case starts && !found:
			inside, found = true, true
		case inside && !indented:
			inside = false
		}
		if inside {
			block.WriteString(line)
		} else {
			block.WriteByte('\n')
		}
	}
	if root, _ := parse(path, []byte(block.String())); found && root != nil && root.kind == mapping {
		return root, nil
	}
	return nil, errs
}
