package convert

import (
	"fmt"
	"strings"

	"proxyd/internal/config"
)

// variables name credentials, one name for equal ones.
type variables struct {
	list   []Variable
	byText map[string]string
	last   map[string]int // the number that a base was last given
}

func newVariables() variables {
	return variables{byText: map[string]string{}, last: map[string]int{}}
}

// ref returns the reference to a credential of the upstream that is called label.
func (v *variables) ref(label, part string, s config.Secret) string {
	if name, known := v.byText[s.Reveal()]; known {
		return "${" + name + "}"
	}
	base := variableName(label) + "_" + part
	name := base
	for v.last[name] > 0 {
		v.last[base]++
		name = fmt.Sprintf("%s_%d", base, v.last[base])
	}
	v.last[name], v.byText[s.Reveal()] = 1, name
	v.list = append(v.list, Variable{name, s})
	return "${" + name + "}"
}

// variableName returns a label as the beginning of a variable's name. Names that
// proxyd reads as keys are not among them.
func variableName(label string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, label)
	switch {
	case name == "":
		return "PROXY"
	case name[0] >= '0' && name[0] <= '9', strings.HasPrefix(name, "PROXYD"), strings.HasPrefix(name, "CRYPTOFEED"):
		return "PROXY_" + name
	}
	return name
}
