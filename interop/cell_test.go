//go:build interop

package interop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// cell is one run of one program.
type cell struct {
	Client string // its id
	Kind   string // rest, websocket
	Column string // environment, line, socks, exec, isolate; 502, 403, 504
}

func (c cell) String() string { return c.Client + ", " + c.Kind + ", " + c.Column }

// The outcomes of a cell, as the tables show them.
const (
	works    = "works"
	fails    = "fails"
	tries    = "goes on trying" // a refusal does not end it
	direct   = "⚠ **direct**"
	lookedUp = "⚠ looks the name up itself"
	notRun   = "not run"
)

// outcome is what came of a cell.
type outcome struct {
	Cell    cell
	Outcome string
	Error   string // the last line that a human sees
	Output  string // all of it, for those who look for the reason
	Lives   bool   // the client's file says that it goes on after an outage
	Late    bool   // it is what it is because this harness waited no longer
	Again   string // the outcome of a first attempt that was late
}

const (
	cellTime   = time.Minute      // the longest that a cell may take
	outputTime = 10 * time.Second // the longest that its output may come after its end
	leakTime   = 10 * time.Second // from a name that is looked up to a connection there
)

var errNotEnded = errors.New("not ended in time")

// run runs one cell. A program that did not end in time gets a second attempt: how
// long it may take is this harness' choice, and a machine can be busy with all else.
func (w *network) run(t *testing.T, c cell) outcome {
	t.Helper()
	first := w.attempt(t, c)
	if !first.Late {
		return first
	}
	second := w.attempt(t, c)
	second.Again = first.Outcome + ": " + first.Error
	return second
}

func (w *network) attempt(t *testing.T, c cell) outcome {
	t.Helper()
	client := w.clients[c.Client]
	part, environ := client.program(c.Kind, c.Column)
	w.start(t, stateOf(c.Column))
	in := filepath.Join(dir, "cell")
	if err := errors.Join(os.RemoveAll(in), os.MkdirAll(in, 0o700)); err != nil {
		t.Fatal(err)
	}
	argv, variables := client.command(t, part, in), w.variables(c.Column)
	if environ {
		variables = append(variables, w.environ...)
	}
	switch c.Column {
	case "exec":
		argv = append([]string{os.Getenv("INTEROP_PROXYD"), "exec", "-c", w.config, "--"}, argv...)
	case "isolate":
		argv = append([]string{os.Getenv("INTEROP_PROXYD"), "exec", "-c", w.config, "--isolate", "--"}, argv...)
	}
	rest, stream := len(w.rest.Asked()), len(w.stream.Asked())
	w.detector.taken(t)
	w.exchange.taken()
	p := runProgram(t, in, variables, argv, w.detector)
	out := outcome{Cell: c, Error: p.lastLine(client.language), Output: p.all()}
	astray, logins := w.exchange.taken()
	leaks := strings.Join(w.detector.taken(t), ", ")
	through := len(w.rest.Asked()) > rest
	if c.Kind == "websocket" {
		through = len(w.stream.Asked()) > stream
	}
	switch {
	case strings.Contains(leaks, "connected"):
		out.Outcome = direct
	case leaks != "":
		out.Outcome = lookedUp
	case p.err == nil && through && p.printed(c.Kind) && len(astray)+len(logins) == 0:
		out.Outcome = works
	case slices.Contains(refusals, c.Column) && errors.Is(p.err, errNotEnded):
		out.Outcome = tries
	default:
		out.Outcome = fails
		out.Output += fmt.Sprintf("\n%v; through the upstream: %v; through the other one: %q; sent from ~/.netrc: %q\nproxyd: %s", p.err, through, astray, logins, lastLines(w.proxyd.out.String(), 4))
	}
	out.Late = errors.Is(p.err, errNotEnded) && slices.Contains([]string{fails, tries}, out.Outcome)
	if wrapped(c.Column) && out.Outcome == works && !strings.Contains(p.stderr.String(), "through "+w.upstream(c.Kind).Addr) {
		out.Outcome = fails
		out.Output += "\nproxyd exec does not name the upstream"
	}
	return out
}

// wrapped reports whether a column's programs are started by proxyd.
func wrapped(column string) bool { return column == "exec" || column == "isolate" }

// variables are the environment of every program, without a proxy.
func (w *network) variables(column string) []string {
	home := filepath.Join(dir, "home")
	if wrapped(column) {
		home = filepath.Join(dir, "home-netrc") // where a default entry waits
	}
	ca := w.exchange.ca
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + dir, "LANG=C.UTF-8",
		"SSL_CERT_FILE=" + ca, "REQUESTS_CA_BUNDLE=" + ca, "CURL_CA_BUNDLE=" + ca, "NODE_EXTRA_CA_CERTS=" + ca}
}

// ended is what a program has said, and how it ended.
type ended struct {
	stdout, stderr testkit.Output
	err            error
}

// runProgram runs a program to its end, or until soon after the detector saw it.
func runProgram(t *testing.T, in string, environ, argv []string, d *detector) *ended {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), cellTime, errNotEnded)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = in, environ
	p := &ended{}
	cmd.Stdout, cmd.Stderr = &p.stdout, &p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = kill, outputTime
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the program
		p.err = cmd.Wait()
		close(done)
	}()
	for {
		select {
		case <-done:
			_ = kill() // what it left behind
			if ctx.Err() != nil {
				p.err = context.Cause(ctx)
			}
			return p
		case <-time.After(50 * time.Millisecond):
		}
		if d.enough() {
			cancel()
		}
	}
}

// printed reports whether a program has printed what it got: an answer, or three messages.
func (p *ended) printed(kind string) bool {
	want := 1
	if kind == "websocket" {
		want = 3
	}
	return strings.Count(strings.TrimRight(p.stdout.String(), "\n")+"\n", "\n") >= want && strings.TrimSpace(p.stdout.String()) != ""
}

func (p *ended) all() string { return p.stdout.String() + p.stderr.String() }

var (
	addresses = regexp.MustCompile(`0x[0-9a-fA-F]{4,}`)
	ports     = regexp.MustCompile(`(127\.0\.0\.1|localhost):\d{5}\b`)
	paths     = regexp.MustCompile(`(^|[\s"'(=])(/[\w.@+-]+){3,}`)
	silence   = regexp.MustCompile(`silent (.*) for [\d.]+ s`)
	goTime    = regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `)
	javaError = regexp.MustCompile(`(?m)^(Exception in thread .*|Caused by: .*|[\w.$]+(Exception|Error)(: .*)?)$`)
)

// lastLine returns what a human sees last: the line that says what went wrong.
func (p *ended) lastLine(language string) string {
	text := p.stderr.String()
	if strings.TrimSpace(text) == "" {
		text = p.stdout.String()
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	line := strings.TrimSpace(lines[len(lines)-1])
	switch language {
	case "node":
		line = cmp.Or(nodeError(text), line)
	case "python":
		line = cmp.Or(pythonError(text), line)
	case "java":
		if m := javaError.FindAllString(text, -1); m != nil {
			line = m[len(m)-1]
		}
	}
	line = addresses.ReplaceAllString(line, "0x…")
	line = ports.ReplaceAllString(line, "$1:PORT")
	line = silence.ReplaceAllString(line, "silent $1 for N s")
	line = goTime.ReplaceAllString(line, "")
	return shorten(paths.ReplaceAllStringFunc(line, func(path string) string {
		before := path[:strings.IndexByte(path, '/')]
		if strings.HasPrefix(path[len(before):], "/api/") || strings.HasPrefix(path[len(before):], "/ws/") {
			return path
		}
		return before + "…/" + filepath.Base(path)
	}))
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// shorten takes the middle out of a line, so that it fits into a cell.
func shorten(line string) string {
	const most = 180
	r := []rune(line)
	if len(r) <= most {
		return line
	}
	return string(r[:most/3]) + " … " + string(r[len(r)-2*most/3+3:])
}
