package config_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf16"

	"proxyd/internal/config"
)

// fill repeats a line until a file is as large as one may be.
func fill(head, line string) string {
	return head + strings.Repeat(line, (8<<20-len(head))/len(line))
}

func times(n int, head, line, tail string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := range n {
		b.WriteString(strings.ReplaceAll(line, "%d", fmt.Sprint(i)))
	}
	return b.String() + tail
}

// What could take minutes or gigabytes is refused at once, with a sentence. It
// runs alone, since what ran beside it would count too.
func TestLoadRefusesHostileFiles(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ",") + "]\n"
	}
	const values, large = "proxyd.yaml: holds more than 600000 values; is it the right file?", "proxyd.yaml: is larger than 8 MiB; is it the right file?"
	for name, c := range map[string]struct{ text, want string }{
		"alias bomb":              {bomb, "proxyd.yaml: holds more than 600000 values, with its aliases written out; is it the right file?"},
		"many aliases":            {times(20_000, "listen: &a\nroutes:\n", "- *a\n", ""), "more like these, or unlike them"},
		"deep list":               {strings.Repeat("[", 9000), "proxyd.yaml:1"},
		"deep list, closed":       {"x: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "is nested deeper than 32 levels"},
		"deeper than the parser":  {"x: " + strings.Repeat("[", 20000) + strings.Repeat("]", 20000), "exceeded max depth"},
		"deep mapping":            {strings.Repeat("{a: ", 300) + strings.Repeat("}", 300), "is nested deeper than 32 levels"},
		"deep block":              {strings.Repeat("- ", 9000) + "x", "is nested deeper than 32 levels"},
		"10 MB of one word":       {"x: " + strings.Repeat("y", 10<<20), large},
		"10 MB of a list":         {"x: [" + strings.Repeat("a,", 5<<20) + "]", large},
		"one word, just small":    {fill("x: ", "y"), "proxyd.yaml:1:1: x: unknown key"},
		"a list in one line":      {fill("x: [", "a,"), values},
		"empty lists":             {fill("x: [", "[],"), values},
		"a list of lines":         {fill("x:\n", "- a\n"), values},
		"empty lines":             {fill("x: 1\n", "\n"), values},
		"keys":                    {fill("", "k: 1\n"), values},
		"unknown keys":            {times(20_000, "", "k%d: 1\n", ""), "proxyd.yaml: and 1 more like these, or unlike them; fix these first"},
		"one key, many times":     {times(20_000, "", "watch: true\n", ""), "is also set in line 1 (keys ignore case)"},
		"names that are none":     {times(20_000, "pools:\n", "  _%d: {proxies: [direct]}\n", ""), "more like these"},
		"exchanges that are none": {times(2_000, "exchanges:\n", "  x%d: direct\n", ""), "proxyd.yaml: and 1000 more like these, or unlike them; fix these first"},
		"bad URLs":                {times(20_000, "pools: {a: {proxies: [", "foo://h%d.example,", "]}}"), "and 19000 more like these"},
		"a tag of any type":       {"x: !!python/object:os.system y\n", "unknown key"},
		"binary":                  {"drain_seconds: !!binary aGFsbG8=\n", "drain_seconds: must be a number, not a value with a tag"},
	} {
		t.Run(name, func(t *testing.T) {
			start := spent(t)
			got := strings.Join(errs(t, c.text), "\n")
			if took := spent(t) - start; took > patience {
				t.Errorf("took %v", took)
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("got %.300s, want %s", got, c.want)
			}
			if n := strings.Count(got, "\n"); n > 1000 {
				t.Errorf("%d lines of errors", n+1)
			}
		})
	}
}

// Ten thousand of anything are read, in a file far below what one may be. It
// runs alone, since what ran beside it would count too.
func TestLoadTenThousandEntries(t *testing.T) {
	const n = 10_000
	for name, c := range map[string]struct {
		text  string
		count func(*config.Config) int
	}{
		"members with every key": {times(n, "pools:\n  a:\n    proxies:\n", `      - {name: member-%d, url: "socks5://user-%d:password-%d@gateway-%d.provider.example:1080", weight: 2, tier: 1, exit: e-%d, limits: {connects: 300/5m, max_connections: 500, queue_seconds: 2}}`+"\n", ""),
			func(c *config.Config) int { return len(c.Pools[0].Proxies) }},
		"sessions at one gateway": {times(n, "pools: {a: {proxies: [\n", "http://user-%d:p@gateway.example:1080,\n", "]}}"),
			func(c *config.Config) int { return len(c.Pools[0].Proxies) }},
		"exchanges": {times(n, "exchanges:\n", "  v%d: {hosts: [\"*.h%d.example\"], url: \"http://p%d.example:1\"}\n", ""),
			func(c *config.Config) int { return len(c.Exchanges) }},
		"pools": {times(n, "pools:\n", "  p%d: {proxies: [\"http://p%d.example:1\"]}\n", ""),
			func(c *config.Config) int { return len(c.Pools) }},
		"hosts of a route": {times(n, "routes:\n- use: direct\n  hosts:\n", "  - h%d.example\n", ""),
			func(c *config.Config) int { return len(c.Routes[0].Hosts) }},
	} {
		t.Run(name, func(t *testing.T) {
			if len(c.text) > 8<<20/3 {
				t.Errorf("the file has %d KiB", len(c.text)>>10)
			}
			start := spent(t)
			loaded := load(t, c.text)
			if took := spent(t) - start; took > patience {
				t.Errorf("took %v", took)
			} else {
				t.Logf("%d KiB in %v", len(c.text)>>10, took)
			}
			if got := c.count(loaded); got != n {
				t.Errorf("got %d", got)
			}
			start = spent(t)
			d := config.Diff(loaded, load(t, "watch: false\n"))
			if took := spent(t) - start; len(d) == 0 || took > patience {
				t.Errorf("%d differences in %v", len(d), took)
			}
		})
	}
}

// The number of values is bounded, and so is the memory that each takes.
func TestLoadMemoryPerValue(t *testing.T) {
	const values = 150_000
	path := write(t, times(values, "x: [", "a,", "]\n"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := config.Load(path, nil); err == nil {
		t.Error("an unknown key is read")
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / values; each > 1000 {
		t.Errorf("%d bytes were allocated for each value", each)
	} else {
		t.Logf("%d bytes for each value", each)
	}
}

// What is no text of ours, and what says nothing.
func TestLoadRefusesOtherFormats(t *testing.T) {
	wide := func(s string) string {
		var b strings.Builder
		for _, u := range utf16.Encode([]rune(s)) {
			b.Write([]byte{byte(u), byte(u >> 8)})
		}
		return b.String()
	}
	const yes, empty = "", "proxyd.yaml: is empty; write at least one key, such as default: direct"
	for name, c := range map[string]struct{ text, want string }{
		"empty":                      {"", empty},
		"a line end":                 {"\n", empty},
		"spaces":                     {"  \n\n   \n", empty},
		"comments":                   {"# default: direct\n# nothing else\n", empty},
		"a document mark":            {"---\n", empty},
		"null":                       {"null\n", empty},
		"an empty mapping":           {"{}\n", empty},
		"an empty block":             {"proxy: {}\n", empty},
		"a BOM alone":                {"\ufeff", empty},
		"a BOM":                      {"\ufeffdefault: direct\n", yes},
		"a BOM, and an error":        {"\ufeffdefault: nowhere\n", "proxyd.yaml:1:10: default: there is no pool of that name"},
		"a BOM in the middle":        {"default: direct\n\ufeffwatch: true\n", "proxyd.yaml:"},
		"UTF-16 that says so":        {wide("\ufeffdefault: direct\n"), yes},
		"UTF-16 that does not":       {wide("default: direct\n"), "proxyd.yaml:1:2: has a zero byte; is it a text, and was it written whole? save it as UTF-8"},
		"zero bytes alone":           {strings.Repeat("\x00", 4096), "proxyd.yaml:1:1: has a zero byte"},
		"zero bytes behind the text": {"default: direct\nwatch: true\n\x00\x00\x00", "proxyd.yaml:3:1: has a zero byte"},
		"a zero byte in a value":     {"default: dir\x00ect\n", "proxyd.yaml:1:13: has a zero byte"},
		"Latin-1":                    {"# caf\xe9\ndefault: direct\n", "invalid"},
		"half a character":           {"default: direct\n# m\xc3", "incomplete UTF-8"},
		"Windows line ends":          {"default: direct\r\nwatch: true\r\n", yes},
		"a page of the web":          {"<!DOCTYPE html>\n<html></html>\n", "the file must be a mapping of keys, not text"},
		"JSON":                       {`{"default": "direct"}`, yes},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.text)
			_, err := config.Load(path, nil)
			switch {
			case c.want == yes && err != nil:
				t.Error(err)
			case c.want != yes && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), path, "proxyd.yaml"), c.want)):
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// A file that a program has half written: where the cut can be recognised it is
// refused, and where it cannot, the difference shows what is gone.
func TestLoadTruncatedFile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../configs/proxyd.full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	environ := []string{"ASIA_PASSWORD=a", "BOT_PASSWORD=b"}
	path := filepath.Join(t.TempDir(), "proxyd.yaml")
	loadCut := func(n int) (*config.Config, error) {
		if err := os.WriteFile(path, text[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Load(path, environ)
	}
	full, err := loadCut(len(text))
	if err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	cuts, accepted, same, inside := 0, 0, 0, 0
	for n := 0; n < len(text); n += step {
		begun := text[bytes.LastIndexByte(text[:n], '\n')+1 : n]
		remark := bytes.Contains(begun, []byte("# "))
		if remark && text[n] != '\n' { // no other than a cut before it
			continue
		}
		if n%4 != 0 && n > 0 && isLetter(text[n-1]) && isLetter(text[n]) { // within a word, every fourth cut will do
			continue
		}
		cuts++
		c, err := loadCut(n)
		if err != nil {
			continue
		}
		accepted++
		if !remark && bytes.HasSuffix(bytes.TrimSpace(text[:n]), []byte(":")) {
			t.Errorf("cut at %d, behind %q: it loads", n, text[max(0, n-20):n])
		}
		line, _, _ := bytes.Cut(text[n:], []byte("\n"))
		line = bytes.TrimSpace(line)
		switch {
		case len(config.Diff(full, c)) == 0:
			same++
		case !remark && len(bytes.TrimSpace(begun)) > 0 && len(line) > 0 && line[0] != '#':
			inside++
		}
	}
	t.Logf("of %d cuts %d are accepted: %d change nothing, %d lie inside of a value", cuts, accepted, same, inside)
	if accepted == 0 || same == 0 || accepted > cuts/2 {
		t.Error("the test has not seen what it is for")
	}
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func TestLoadLastKeyWithoutValue(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		bad  string // the key
	}{
		"at the top":                   {"default: asia\npools: {asia: {proxies: [direct]}}\nexchanges:\n", "3:1: exchanges"},
		"below":                        {"exchanges:\n  okx: direct\n  kraken:", "3:3: exchanges.kraken"},
		"with a remark":                {"watch: true\nexchanges:   # all of them\n\n", "2:1: exchanges"},
		"in a list":                    {"routes:\n- hosts: [a.example]\n  use:\n", "3:3: routes[0].use"},
		"said to be none":              {"watch: true\nexchanges: null\n", ""},
		"not the last":                 {"exchanges:\nwatch: true\n", ""},
		"in braces":                    {"default: {http: direct, websocket: }\n", ""},
		"what it had is commented out": {"watch: true\nexchanges:\n#  okx: asia\n", ""},
		"text that ends in a colon":    {"log: {level: info}\ndefault: |\n  direct:\n", "default: there is no pool"},
		"quoted, and nothing in it":    {"watch: true\nadmin: \"\"\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.text)
			_, err := config.Load(path, nil)
			if (err == nil) != (c.bad == "") || err != nil && !strings.Contains(err.Error(), c.bad) {
				t.Errorf("got %v, want %q", err, c.bad)
			}
		})
	}
}

// A key may be a credential that a stray colon has turned into one. A word of up to 60
// characters is shown, in any script.
func TestKeysThatMayBeShown(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		strings.Repeat("é", 60): strings.Repeat("é", 60), strings.Repeat("é", 61): "***", strings.Repeat("k", 61): "***",
		"user_name-1.x": "user_name-1.x", "p@ssword": "***", "a b": "***",
	} {
		_, err := config.Load(write(t, "pools: {asia: {\""+key+"\": {x: 1}}}\n"), nil)
		if err == nil || !strings.Contains(err.Error(), "pools.asia."+want+": ") {
			t.Errorf("%s: got %v", key, err)
		}
	}
}
