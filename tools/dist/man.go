package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// commandPage returns the page of commands[i]. The first command is proxyd itself.
func commandPage(commands []command, i int, version string, date time.Time) []byte {
	c := commands[i]
	r := newPage(c.page(), "1", version, date)
	r.section("Name")
	r.line(roffText(c.page()) + ` \- ` + inline(lowerFirst(c.short)))
	r.section("Synopsis")
	for j, usage := range c.usage {
		if j > 0 {
			r.WriteString(".br\n")
		}
		r.line(bold(c.words) + roffText(strings.TrimPrefix(usage, c.words)))
	}
	r.section("Description")
	r.paragraphs(c.long)
	if len(c.below) > 0 {
		r.section("Commands")
		for _, b := range c.below {
			term := bold(b.words)
			if i == 0 {
				term = bold(b.page()) + "(1)"
			}
			r.item(term, inline(b.short))
		}
	}
	r.section("Options")
	for _, o := range append(c.options, c.global...) {
		term := bold(o.names)
		if o.value != "" {
			term += " " + italic(o.value)
		}
		r.item(term, inline(o.text))
	}
	if i == 0 {
		r.forAll()
	}
	if c.examples != "" {
		r.section("Examples")
		r.verbatim(unindent(c.examples))
	}
	r.section("See also")
	others := []string{"proxyd(1)", "proxyd.yaml(5)"}
	if i == 0 {
		others = others[1:]
	}
	r.line(seeAlso(others))
	return r.Bytes()
}

// forAll writes what holds for all commands.
func (r *roff) forAll() {
	r.section("Environment")
	r.item(bold("PROXYD_CONFIG"), inline("The configuration file, if there is no `--config`."))
	r.section("Files")
	r.item(bold("./proxyd.yaml"))
	r.item(bold("/etc/proxyd/proxyd.yaml"), inline("The configuration, in this order."), seeAlso([]string{"proxyd.yaml(5)"})+" has its keys.")
	r.section("Exit status")
	r.item("0", roffText("The command has done what it was asked for."))
	r.item("1", roffText("It has not. Standard error says why."))
	r.item("2", roffText("It was called in the wrong form."))
	r.paragraph()
	r.line(bold("proxyd exec") + roffText(" ends with the exit status of its command."))
}

// seeAlso returns a list of pages, NAME(SECTION).
func seeAlso(pages []string) string {
	for i, p := range pages {
		name, section, _ := strings.Cut(p, "(")
		pages[i] = bold(name) + "(" + section
	}
	return strings.Join(pages, ", ")
}

// lowerFirst returns text with a small first letter, as the line NAME has it.
func lowerFirst(text string) string {
	first, rest := text[:1], text[1:]
	if rest != "" && unicode.IsUpper(rune(rest[0])) {
		return text
	}
	return strings.ToLower(first) + rest
}

// filePage returns proxyd.yaml(5): the key reference of docs/configuration.md, and
// an example.
func filePage(manual, example, version string, date time.Time) ([]byte, error) {
	_, reference, ok := strings.Cut(manual, "\n## Key reference\n")
	if !ok {
		return nil, fmt.Errorf("docs/configuration.md has no heading %q", "## Key reference")
	}
	r := newPage("proxyd.yaml", "5", version, date)
	r.section("Name")
	r.line(`proxyd.yaml \- configuration of proxyd`)
	r.section("Description")
	r.paragraphs("proxyd reads one YAML file: that of `--config` or `$PROXYD_CONFIG`, else `./proxyd.yaml` or `/etc/proxyd/proxyd.yaml`.\nThe daemon loads it again when it is saved." +
		"\n\n`proxyd check` says what is wrong with a file, `proxyd schema` prints its JSON Schema for editors.\n`${NAME}` stands for an environment variable, and `${file:/path}` for the contents of a file.")
	for line := range strings.SplitSeq(reference, "\n") {
		switch {
		case line == "", strings.HasPrefix(line, "<!--"), strings.HasPrefix(line, "| key |"), strings.HasPrefix(line, "|---"):
		case strings.HasPrefix(line, "### "):
			r.section(strings.TrimPrefix(line, "### "))
		case strings.HasPrefix(line, "|"):
			if err := r.key(line); err != nil {
				return nil, err
			}
		default:
			r.paragraph()
			r.line(inline(line))
		}
	}
	r.section("Example")
	_, example, _ = strings.Cut(example, "\n") // its first line is for editors
	r.verbatim(example)
	r.section("See also")
	r.line(seeAlso([]string{"proxyd(1)", "proxyd-check(1)", "proxyd-schema(1)"}))
	return r.Bytes(), nil
}

// key writes one row of the reference: key, default, value, meaning.
func (r *roff) key(row string) error {
	cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(row, "| "), " |"), " | ")
	if len(cells) != 4 {
		return fmt.Errorf("docs/configuration.md: not four cells in the key reference: %s", row)
	}
	key, standard, value, meaning := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]), cells[3]
	last := "Value: " + value + "."
	if standard != "" {
		last += " Default: " + standard + "."
	}
	r.item(inline(key), inline(meaning))
	r.WriteString(".br\n")
	r.line(inline(last))
	return nil
}
