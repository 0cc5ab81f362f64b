package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const sampleHelp = `Stop it. It says why.

  as_is  here

Usage:
  proxyd stop NAME [flags]

Examples:
  proxyd stop a    # this
    indented

Flags:
  -h, --help          help for stop
      --sha256 HEX    a sum
      --bare

Global Flags:
  -c, --config FILE   configuration FILE
`

func TestHelpBecomesAPage(t *testing.T) {
	c, err := parseHelp("proxyd stop", sampleHelp)
	if err != nil {
		t.Fatal(err)
	}
	c.short = "Stop it"
	page := string(commandPage([]command{{words: "proxyd"}, c}, 1, "v1", time.Unix(testEpoch, 0).UTC()))
	for _, want := range []string{
		".TH PROXYD\\-STOP 1 2023-11-14 \"proxyd v1\" \"proxyd\"\n",
		"proxyd\\-stop \\- stop it\n",
		"\\fBproxyd stop\\fR NAME [flags]\n",
		".RS 4\n.nf\nas_is  here\n.fi\n",
		"proxyd stop a    # this\n  indented\n",
		".TP\n\\fB\\-\\-sha256\\fR \\fIHEX\\fR\na sum\n",
		".TP\n\\fB\\-\\-bare\\fR\n",
		".TP\n\\fB\\-c, \\-\\-config\\fR \\fIFILE\\fR\nconfiguration FILE\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}

// What cannot be read is an error: a page shall not leave anything out.
func TestHelpThatIsNotUnderstood(t *testing.T) {
	for help, want := range map[string]string{
		"nothing\n": "no usage",
		"x\n\nUsage:\n  proxyd\n\nFlags:\n  --a=1 x\n":                "not a flag",
		"x\n\nUsage:\n  proxyd\n\nAvailable Commands:\n  Two words\n": "not a command",
	} {
		if _, err := parseHelp("proxyd", help); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", help, err)
		}
	}
	broken := errors.New("broken")
	if _, err := readCommands(func(...string) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestRoffPrintsTextAsItIs(t *testing.T) {
	var r roff
	for _, c := range []struct{ in, want string }{
		{`a\b -x 'q' ~ ^`, `a\eb \-x \(aqq\(aq \(ti \(ha`},
		{"code `a-b` and [text](there.md#x)", `code \fBa\-b\fR and text`},
		{"×…", `\[u00D7]\[u2026]`},
	} {
		if got := inline(c.in); got != c.want {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
	r.line(".request")
	if got := r.String(); got != "\\&.request\n" {
		t.Errorf("%q", got)
	}
}
