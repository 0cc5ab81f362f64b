package main

import (
	"fmt"
	"regexp"
	"strings"
)

// command is what the --help of one command says.
type command struct {
	words    string // proxyd drain
	short    string
	long     string
	usage    []string
	examples string
	below    []command // only words and short
	options  []option
	global   []option // of all commands
}

// option is one flag.
type option struct{ names, value, text string }

// page returns the name of the command's man page.
func (c command) page() string { return strings.ReplaceAll(c.words, " ", "-") }

// readCommands returns proxyd and then each of its commands, as their --help says it.
func readCommands(say func(args ...string) ([]byte, error)) ([]command, error) {
	text, err := say("--help")
	if err != nil {
		return nil, err
	}
	root, err := parseHelp("proxyd", string(text))
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(strings.ReplaceAll(root.long, "\n", " "), ". ")
	root.short = strings.TrimPrefix(first, "proxyd is a ")
	commands := []command{root}
	for _, c := range root.below {
		name := strings.TrimPrefix(c.words, "proxyd ")
		if text, err = say("help", name); err != nil {
			return nil, err
		}
		full, err := parseHelp(c.words, string(text))
		if err != nil {
			return nil, err
		}
		full.short = c.short
		commands = append(commands, full)
	}
	return commands, nil
}

var (
	helpHead    = regexp.MustCompile(`(?m)^(Usage|Examples|Available Commands|Flags|Global Flags):\n`) // begins a part of a help text
	helpOption  = regexp.MustCompile(`^ +(-\w, )?(--[a-z][a-z0-9-]*)(?: ([^ ]+))?(?:  +(.*))?$`)
	helpCommand = regexp.MustCompile(`^  ([a-z]+) +(.*)$`)
)

// parseHelp reads a help text. A line that it does not understand is an error: nothing
// shall be missing in a page.
func parseHelp(words, text string) (command, error) {
	c := command{words: words}
	heads := helpHead.FindAllStringSubmatchIndex(text, -1)
	if len(heads) == 0 {
		return c, fmt.Errorf("%s --help has no usage", words)
	}
	c.long = strings.TrimSpace(text[:heads[0][0]])
	for i, h := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		part := strings.TrimRight(text[h[1]:end], "\n ")
		if j := strings.Index(part, "\n\nUse \""); j >= 0 {
			part = part[:j]
		}
		if err := c.add(text[h[2]:h[3]], part); err != nil {
			return c, fmt.Errorf("%s --help: %w", words, err)
		}
	}
	return c, nil
}

// add adds one part of a help text.
func (c *command) add(head, part string) error {
	if head == "Examples" {
		c.examples = part
		return nil
	}
	for line := range strings.SplitSeq(part, "\n") {
		switch head {
		case "Usage":
			c.usage = append(c.usage, strings.TrimSpace(line))
		case "Available Commands":
			m := helpCommand.FindStringSubmatch(line)
			if m == nil {
				return fmt.Errorf("not a command: %q", line)
			}
			c.below = append(c.below, command{words: c.words + " " + m[1], short: m[2]})
		default:
			m := helpOption.FindStringSubmatch(line)
			if m == nil {
				return fmt.Errorf("not a flag: %q", line)
			}
			o := option{names: m[1] + m[2], value: m[3], text: m[4]}
			if head == "Flags" {
				c.options = append(c.options, o)
			} else {
				c.global = append(c.global, o)
			}
		}
	}
	return nil
}
