package admin

import (
	"net/http"
	"time"
)

// ConfigReport is the configuration in force, and how it came to be.
type ConfigReport struct {
	Config
	YAML       string      `json:"yaml"`                  // as `proxyd check --print` prints it, secrets masked
	LastReload *LastReload `json:"last_reload,omitempty"` // none since the start
}

// LastReload is how the last reload went that was no dry run.
type LastReload struct {
	Time time.Time `json:"time"`
	By   string    `json:"by"` // what asked for it: "file changed", "SIGHUP", "admin"
	Report
}

// config serves the configuration in force.
func (s *Server) config(w http.ResponseWriter, r *http.Request) {
	if s.o.Config == nil {
		(&refusal{status: http.StatusNotImplemented, text: "this proxyd does not show its configuration; run: proxyd check --print"}).write(w, r)
		return
	}
	c := s.o.Config()
	fill(&c.Faults)
	if c.LastReload != nil {
		last := *c.LastReload
		last.Report = last.filled()
		c.LastReload = &last
	}
	writeJSON(w, http.StatusOK, c)
}
