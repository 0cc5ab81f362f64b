package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// roff is a man page that grows; it uses what groff and mandoc have in common.
type roff struct{ bytes.Buffer }

// newPage returns a page with its title line. The time is that of the release.
func newPage(name, section, version string, date time.Time) *roff {
	var r roff
	fmt.Fprintf(&r, ".TH %s %s %s \"proxyd %s\" \"proxyd\"\n", strings.ToUpper(roffText(name)), section, date.Format(time.DateOnly), roffText(version))
	return &r
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// roffText returns text so that roff prints it as it is; letters beyond ASCII are
// named, since an old man reads them by the user's locale.
func roffText(text string) string {
	var b strings.Builder
	for _, c := range roffEscapes.Replace(text) {
		if c < 0x80 {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, `\[u%04X]`, c)
		}
	}
	return b.String()
}

func bold(text string) string   { return `\fB` + roffText(text) + `\fR` }
func italic(text string) string { return `\fI` + roffText(text) + `\fR` }

// line writes one line of text that is escaped already. A dot at its begin is text.
func (r *roff) line(text string) {
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	r.WriteString(text + "\n")
}

func (r *roff) section(name string) { r.WriteString(".SH " + strings.ToUpper(roffText(name)) + "\n") }

// paragraph begins one; a section begins with one by itself.
func (r *roff) paragraph() {
	text := bytes.TrimRight(r.Bytes(), "\n")
	if last := text[bytes.LastIndexByte(text, '\n')+1:]; !bytes.HasPrefix(last, []byte(".SH")) {
		r.WriteString(".PP\n")
	}
}

// item writes a term, whose text is escaped already, and what it means.
func (r *roff) item(term string, text ...string) {
	r.WriteString(".TP\n")
	r.line(term)
	for _, t := range text {
		r.line(t)
	}
}

// verbatim writes lines as they are, indented.
func (r *roff) verbatim(text string) {
	r.paragraph()
	r.WriteString(".RS 4\n.nf\n")
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		r.line(roffText(strings.TrimRight(line, " ")))
	}
	r.WriteString(".fi\n.RE\n")
}

// paragraphs writes plain text. A paragraph with indented lines is verbatim.
func (r *roff) paragraphs(text string) {
	for part := range strings.SplitSeq(text, "\n\n") {
		if strings.HasPrefix(part, " ") || strings.Contains(part, "\n ") {
			r.verbatim(unindent(part))
			continue
		}
		r.paragraph()
		for line := range strings.SplitSeq(part, "\n") {
			r.line(inline(line))
		}
	}
}

// unindent removes the two columns before the lines of a help text.
func unindent(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

var (
	markdownCode = regexp.MustCompile("`[^`]*`")
	markdownLink = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// inline returns a line of Markdown for roff: code is bold, of a link the text
// remains.
func inline(text string) string {
	text = markdownLink.ReplaceAllString(text, "$1")
	var b strings.Builder
	for {
		at := markdownCode.FindStringIndex(text)
		if at == nil {
			b.WriteString(roffText(text))
			return b.String()
		}
		b.WriteString(roffText(text[:at[0]]) + bold(text[at[0]+1:at[1]-1]))
		text = text[at[1]:]
	}
}
