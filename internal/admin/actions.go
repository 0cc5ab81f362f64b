package admin

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
)

// reload answers with a Report: 200, or 422 with the errors.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	noWriteDeadline(w)
	report := s.o.Reload(context.WithoutCancel(r.Context()), isSet(r, "dry_run")).filled()
	status := http.StatusOK
	if len(report.Faults) > 0 {
		status = http.StatusUnprocessableEntity
	}
	writeJSON(w, status, report)
}

// The last line of an upgrade's answer.
const (
	upgradeDone   = "done"
	upgradeFailed = "failed: "
)

// upgrade streams a line for each step, and then how it ended. What is refused
// before the first step is an answer like others: 409.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	if s.o.Upgrade == nil {
		(&refusal{status: http.StatusNotImplemented, text: "this proxyd cannot hand over to another; stop and start it"}).write(w, r)
		return
	}
	noWriteDeadline(w)
	p := &progress{w: w}
	err := s.o.Upgrade(context.WithoutCancel(r.Context()), isSet(r, "move"), p.line)
	switch {
	case err == nil:
		p.line(upgradeDone)
	case p.begun():
		p.line(upgradeFailed + err.Error())
	default:
		(&refusal{status: http.StatusConflict, text: oneLine(err.Error())}).write(w, r)
	}
	p.end()
}

// progress writes lines as they come. It is safe for concurrent use.
type progress struct {
	mu    sync.Mutex
	w     http.ResponseWriter // nil after the end
	lines int
}

func (p *progress) line(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil {
		return
	}
	if p.lines == 0 {
		p.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	p.lines++
	rc := http.NewResponseController(p.w)
	_ = rc.SetWriteDeadline(time.Now().Add(2 * time.Second)) // a client that does not read must not delay the upgrade
	_, _ = p.w.Write([]byte(oneLine(s) + "\n"))
	_ = rc.Flush()
}

func (p *progress) begun() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines > 0
}

func (p *progress) end() {
	p.mu.Lock()
	p.w = nil
	p.mu.Unlock()
}

// drain serves /-/drain and /-/resume.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	on := strings.HasSuffix(r.URL.Path, "/drain")
	upstream, exchange := r.URL.Query().Get("upstream"), r.URL.Query().Get("exchange")
	switch {
	case s.o.Drain == nil:
		(&refusal{status: http.StatusNotImplemented, text: "this proxyd cannot drain an upstream; set enabled: false in the file"}).write(w, r)
		return
	case upstream == "":
		(&refusal{status: http.StatusBadRequest, text: "name the upstream: " + r.URL.Path + "?upstream=NAME[&exchange=ID]"}).write(w, r)
		return
	}
	if err := s.o.Drain(upstream, exchange, on); err != nil {
		(&refusal{status: http.StatusUnprocessableEntity, text: oneLine(err.Error())}).write(w, r)
		return
	}
	what := upstream
	if exchange != "" {
		what += " for " + exchange
	}
	if on {
		text(w, http.StatusOK, what+": no new connections; tunnels stay\n")
		return
	}
	text(w, http.StatusOK, what+": no longer drained\n")
}

// noWriteDeadline lifts the limit on an answer's time: a change takes what it
// takes.
func noWriteDeadline(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
}

func oneLine(s string) string { return strings.Join(strings.FieldsFunc(s, isBreak), "; ") }

func isBreak(r rune) bool { return r == '\n' || r == '\r' }
