package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"proxyd/internal/printable"
)

// FleetReport is the whole fleet, as this process sees it. The names and texts of other
// hosts are theirs: they are printable, and no more is known of them.
type FleetReport struct {
	Name      string         `json:"name"`
	Time      time.Time      `json:"time"` // when all of this held
	Used      bool           `json:"redis_used"`
	Since     time.Time      `json:"since"`                   // of redis_used
	Why       string         `json:"why,omitempty"`           // Redis is not used
	Problem   string         `json:"problem,omitempty"`       // why Processes, but for this one, is not as of Time
	Read      time.Time      `json:"processes_read,omitzero"` // when the others were; zero: never
	Processes []FleetProcess `json:"processes"`               // by host; those that were heard in the last hour
	Budgets   []FleetBudget  `json:"budgets"`                 // the shared ones in use here, as all hosts see them
	Verdicts  []FleetVerdict `json:"verdicts"`                // that hold, of all hosts
}

// FleetProcess is a process of the fleet.
type FleetProcess struct {
	Host          string    `json:"host"`
	PID           int       `json:"pid"`
	Version       string    `json:"version"`
	Config        string    `json:"config"`                   // hash of the configuration in force
	ConfigDiffers bool      `json:"config_differs,omitempty"` // from that of most
	Lost          []string  `json:"lost,omitempty"`           // exchanges and kinds that are lost or silent there
	LastSeen      time.Time `json:"last_seen"`
	Gone          bool      `json:"gone,omitempty"`    // it is not heard any more, and has not said that it ends
	Retired       bool      `json:"retired,omitempty"` // an earlier generation, with its tunnels
	Alone         bool      `json:"alone,omitempty"`   // its shared budgets are down to its share
	Here          bool      `json:"here,omitempty"`    // it is this one
}

// FleetBudget is a shared budget.
type FleetBudget struct {
	Exit     string    `json:"exit"`
	Exchange string    `json:"exchange,omitempty"`
	Kind     string    `json:"kind,omitempty"`
	Limit    string    `json:"limit"`             // the smallest of all hosts, which holds
	Used     int       `json:"used"`              // new connections in the window
	Open     int       `json:"open"`              // connections
	Heard    time.Time `json:"heard,omitzero"`    // when Redis last said so
	Differs  bool      `json:"differs,omitempty"` // hosts have different limits
}

// FleetVerdict is what an exchange has answered to a host about an exit.
type FleetVerdict struct {
	Exit     string    `json:"exit"`
	Exchange string    `json:"exchange"`
	Kind     string    `json:"kind"`
	Verdict  string    `json:"verdict"`
	Until    time.Time `json:"until"`
	Text     string    `json:"text,omitempty"`
	From     string    `json:"from"` // the host
}

// MarkDiffering marks the processes whose configuration is not that of most; where as
// many have one as another, not that of this process.
func (r *FleetReport) MarkDiffering() {
	count, most, own := map[string]int{}, "", ""
	for _, p := range r.Processes {
		if p.Here {
			own = p.Config
		}
		if !p.Gone && !p.Retired {
			count[p.Config]++
		}
	}
	for _, p := range r.Processes {
		if n := count[p.Config]; n > count[most] || n == count[most] && p.Config == own {
			most = p.Config
		}
	}
	for i := range r.Processes {
		r.Processes[i].ConfigDiffers = r.Processes[i].Config != most
	}
}

// State returns what is to be said of a process, "ok" if nothing is.
func (p *FleetProcess) State() string {
	switch {
	case p.Gone:
		return "gone"
	case p.Retired:
		return "retired"
	case p.Alone:
		return "own share"
	}
	return "ok"
}

// Summary returns the fleet in a line.
func (r *FleetReport) Summary() string {
	gone, differ, lost := 0, 0, 0
	for i := range r.Processes {
		p := &r.Processes[i]
		if p.Gone {
			gone++
		}
		if p.ConfigDiffers {
			differ++
		}
		if len(p.Lost) > 0 {
			lost++
		}
	}
	text := fmt.Sprintf("fleet %s: %s", r.Name, printable.Count(len(r.Processes)-gone, "process", "processes"))
	for _, part := range []struct {
		n    int
		text string
	}{{gone, "gone"}, {differ, "with another configuration"}, {lost, "with lost exchanges"}} {
		if part.n > 0 {
			text += fmt.Sprintf(", %d %s", part.n, part.text)
		}
	}
	if !r.Used {
		text += "; Redis is not used here (" + r.Why + ")"
	}
	if age := r.Age(); age != "" {
		text += "; " + age
	}
	return text
}

// Age returns how old what is said of the other processes is, and why; "" if it is not.
func (r *FleetReport) Age() string {
	switch {
	case r.Problem == "":
		return ""
	case r.Read.IsZero():
		return "the other processes have not been read yet: " + r.Problem
	}
	return fmt.Sprintf("the other processes are as they were last read, %s ago: %s", printable.Span(r.Time.Sub(r.Read)), r.Problem)
}

// Fleet asks for the whole fleet. A daemon without one answers with a *RefusedError.
func (c *Client) Fleet(ctx context.Context) (r FleetReport, err error) {
	return r, c.get(ctx, "/api/v1/fleet", &r)
}

// fleet serves the whole fleet.
func (s *Server) fleet(w http.ResponseWriter, r *http.Request) {
	report := s.fleetReport(r.Context())
	if report == nil {
		(&refusal{status: http.StatusNotFound, text: "this host is alone: there is no fleet in its configuration"}).write(w, r)
		return
	}
	writeJSON(w, http.StatusOK, report)
}

// fleetReport returns the whole fleet, nil if this host is alone.
func (s *Server) fleetReport(ctx context.Context) *FleetReport {
	if s.o.Fleet == nil {
		return nil
	}
	report := s.o.Fleet(ctx)
	if report == nil {
		return nil
	}
	report.MarkDiffering()
	fill(&report.Processes)
	fill(&report.Budgets)
	fill(&report.Verdicts)
	return report
}

// mostShown is how many processes the page shows without a script.
const mostShown = 200

// fleet shows the whole fleet: what is not as it should be first.
func (m *markup) fleet(r *FleetReport) {
	if r == nil {
		return
	}
	m.add("<section aria-labelledby=\"fleet\"><h2 id=\"fleet\">Fleet</h2>\n<p>%s</p>\n", r.Summary())
	m.table("Processes of the fleet", "Host", "State", "Version", "Configuration", "Lost", "#Last seen")
	for _, p := range r.WorstFirst()[:min(len(r.Processes), mostShown)] {
		m.add("<tr><th scope=\"row\">%s <span class=\"dim\">%d</span></th><td>", p.Host, p.PID)
		m.state(p.State(), p.Gone || p.Alone)
		differs := ""
		if p.ConfigDiffers {
			differs = " differs"
		}
		m.add("</td><td>%s</td><td><code>%s</code>%s</td><td>%s</td><td class=\"n\">%s ago</td></tr>\n", p.Version, ShortHash(p.Config), differs, strings.Join(p.Lost, ", "), printable.Span(r.Time.Sub(p.LastSeen)))
	}
	m.endTable()
	m.add("</section>\n")
}

// WorstFirst returns the processes, those to look at first.
func (r *FleetReport) WorstFirst() []FleetProcess {
	rank := func(p *FleetProcess) int {
		switch {
		case p.Gone:
			return 0
		case len(p.Lost) > 0:
			return 1
		case p.Alone:
			return 2
		case p.ConfigDiffers:
			return 3
		}
		return 4
	}
	list := slices.Clone(r.Processes)
	slices.SortStableFunc(list, func(a, b FleetProcess) int { return rank(&a) - rank(&b) })
	return list
}

// ShortHash returns the beginning of a hash, enough to tell some apart.
func ShortHash(hash string) string { return hash[:min(len(hash), 8)] }
