package config

import (
	"bytes"
	"reflect"
	"strings"

	"proxyd/internal/config/internal/raw"
)

// AdminOf reads the key admin alone, so that commands find the daemon even when
// the rest of its file is faulty, be it in its YAML. The error is about the
// address; what else is faulty below admin is left out, a token that cannot be
// read included: on this machine none is needed.
func AdminOf(path string, environ []string) (Admin, error) {
	root, s, faults := readTree(path, environ, "admin")
	if root == nil {
		return Admin{}, faults
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
	faults = nil
	for _, f := range append(s.faults, b.faults...) {
		switch {
		case f.Key == "admin.token":
			a.Token = Secret{}
		case f.Key == "admin" || f.Key == "admin.address" || f.What == unknownKey:
			faults = append(faults, f)
		}
	}
	if len(faults) > 0 {
		return Admin{}, sorted(faults)
	}
	return a, nil
}

// ListenAddress reads the address of the first listener alone, and whether it
// speaks TLS: a daemon lives on when its file is faulty since.
func ListenAddress(path string, environ []string) (address string, secured bool, err error) {
	root, s, faults := readTree(path, environ, "listen")
	if root == nil {
		return "", false, faults
	}
	n := root.child("listen")
	if n != nil && n.kind == list && len(n.items) > 0 {
		n = n.items[0]
	}
	if n == nil || n.kind == null {
		return defaultListen[0], false, nil
	}
	if n.kind == mapping {
		t := n.child("tls")
		secured = t != nil && t.kind != null
		if a := n.address(); a != nil {
			n = a
		}
	}
	if n.kind != scalar {
		s.bad(n, "listen", "must be an address", "write it as 127.0.0.1:8877")
		return "", false, s.faults
	}
	return n.text, secured, nil
}

// salvage reads one key of a file that is no YAML as a whole, if it stands at
// the beginning of a line, with what is indented below it. A file that does not
// have the word has the default; otherwise the faults stand.
func salvage(path string, text []byte, key string, faults Faults) (*node, Faults) {
	if !bytes.Contains(bytes.ToLower(text), []byte(key)) {
		return &node{kind: mapping}, nil
	}
	var block strings.Builder // with the lines before it empty, for the places in faults
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
	return nil, faults
}
