package deploy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// rules is a file of Prometheus rules.
type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

// dashboard is what the test looks at of a Grafana dashboard.
type dashboard struct {
	Panels []struct {
		ID          int
		Type, Title string
		Datasource  struct{ UID string }
		GridPos     struct{ H, W, X, Y int }
		Targets     []struct {
			Expr       string
			Datasource struct{ UID string }
		}
	}
	Annotations struct {
		List []struct{ Expr string }
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, file)), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, "grafana/proxyd.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// listedMetrics returns the metrics of docs/metrics.md with their labels, and those
// of a histogram under the names of its samples.
func listedMetrics(t *testing.T) map[string][]string {
	t.Helper()
	listed := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\| ([^|]*) \\|").FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		var labels []string
		for _, l := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, l[1])
		}
		if m[2] == "histogram" {
			listed[m[1]+"_bucket"] = append(labels, "le")
			listed[m[1]+"_sum"], listed[m[1]+"_count"] = labels, labels
		} else {
			listed[m[1]] = labels
		}
	}
	if len(listed) < 30 {
		t.Fatalf("only %d metrics were found", len(listed))
	}
	return listed
}

var (
	selector = regexp.MustCompile(`\b((?:proxyd|process|go)_[a-z_]+|up)\b(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring) ?\(([^)]*)\)`)
)

// checkExpr reports metrics and labels that docs/metrics.md does not list.
func checkExpr(t *testing.T, where, expr string, listed map[string][]string) {
	t.Helper()
	known := []string{"job", "instance"}
	for _, m := range selector.FindAllStringSubmatch(grouping.ReplaceAllString(expr, ""), -1) {
		labels, ok := listed[m[1]]
		if !ok && m[1] != "up" && m[1] != "proxyd" {
			t.Errorf("%s: docs/metrics.md does not list %s", where, m[1])
		}
		known = append(known, labels...)
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(append(labels, "job", "instance"), l[1]) {
				t.Errorf("%s: %s has no label %s", where, m[1], l[1])
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(g[1], ",") {
			if l = strings.TrimSpace(l); !slices.Contains(known, l) {
				t.Errorf("%s: no metric of %q has the label %s", where, expr, l)
			}
		}
	}
}

// Each alert says how bad it is, what is affected and which command to run next,
// and uses metrics that exist. promtool checks the rest (make alerts).
func TestAlertsNameWhatToDo(t *testing.T) {
	t.Parallel()
	var r rules
	readYAML(t, "prometheus/alerts.yaml", &r)
	cases := read(t, "prometheus/alerts_test.yaml")
	listed := listedMetrics(t)
	var names []string
	for _, g := range r.Groups {
		for _, a := range g.Rules {
			if slices.Contains(names, a.Alert) {
				t.Errorf("%s stands twice", a.Alert)
			}
			names = append(names, a.Alert)
			checkExpr(t, a.Alert, a.Expr, listed)
			if s := a.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s: severity %q", a.Alert, s)
			}
			text := a.Annotations["summary"] + a.Annotations["description"]
			if a.Annotations["summary"] == "" || !regexp.MustCompile("Next: .*`[a-z]").MatchString(a.Annotations["description"]) {
				t.Errorf("%s has no summary, or its description no next command", a.Alert)
			}
			for _, label := range []string{"exchange", "kind", "upstream", "listener", "exit"} {
				if metric := selector.FindString(a.Expr); slices.Contains(listed[strings.SplitN(metric, "{", 2)[0]], label) &&
					!strings.Contains(text, "$labels."+label) && !strings.Contains(a.Expr, "sum by") {
					t.Errorf("%s does not name the %s", a.Alert, label)
				}
			}
			if !strings.Contains(text, "$labels.instance") {
				t.Errorf("%s does not name the instance", a.Alert)
			}
			if fires := regexp.MustCompile(`alertname: ` + a.Alert + `\n +exp_alerts`); !fires.MatchString(cases) {
				t.Errorf("alerts_test.yaml has no case in which %s fires", a.Alert)
			}
		}
	}
	if len(names) < 10 {
		t.Errorf("only %d alerts: %v", len(names), names)
	}
}

// Each alert names a section of the runbook that exists, and docs/operations.md
// lists it with its severity.
func TestAlertsNameTheirRunbook(t *testing.T) {
	t.Parallel()
	var r rules
	readYAML(t, "prometheus/alerts.yaml", &r)
	listed, runbook := read(t, "../docs/operations.md"), sections(read(t, "../docs/runbook.md"))
	for _, g := range r.Groups {
		for _, a := range g.Rules {
			file, anchor, _ := strings.Cut(a.Annotations["runbook"], "#")
			if file != "docs/runbook.md" || anchor == "" {
				t.Errorf("%s: runbook %q is no section of docs/runbook.md", a.Alert, a.Annotations["runbook"])
				continue
			}
			if !slices.Contains(runbook, anchor) {
				t.Errorf("%s: docs/runbook.md has no section #%s", a.Alert, anchor)
			}
			if !regexp.MustCompile("(?m)^\\|.*`" + a.Alert + "`.*\\| " + a.Labels["severity"] + " \\|").MatchString(listed) {
				t.Errorf("docs/operations.md does not list %s as %s", a.Alert, a.Labels["severity"])
			}
		}
	}
}

// sections returns the anchors that GitHub gives to a document's sections.
func sections(text string) (anchors []string) {
	for _, m := range regexp.MustCompile("(?m)^## (.+)$").FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(m[1]), "")
		anchors = append(anchors, strings.ReplaceAll(name, " ", "-"))
	}
	return anchors
}

// The examples for Prometheus and Alertmanager name files, jobs, alerts and
// receivers that exist.
func TestMonitoringExamplesFitTogether(t *testing.T) {
	t.Parallel()
	alerts := read(t, "prometheus/alerts.yaml")
	var p struct {
		Files []string `yaml:"rule_files"`
		Jobs  []struct {
			Name string `yaml:"job_name"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "prometheus/prometheus.yaml", &p)
	for _, f := range p.Files {
		if _, err := os.Stat(filepath.Join("prometheus", f)); err != nil {
			t.Error(err)
		}
	}
	for _, j := range p.Jobs {
		if !strings.Contains(alerts, `job="`+j.Name+`"`) {
			t.Errorf("no alert looks for the job %s", j.Name)
		}
	}
	for _, name := range regexp.MustCompile(`Proxyd[A-Z][A-Za-z]+`).FindAllString(read(t, "prometheus/alertmanager.yaml"), -1) {
		if !strings.Contains(alerts, "alert: "+name+"\n") {
			t.Errorf("alertmanager.yaml names %s, which is no alert", name)
		}
	}
}

// Every panel has its slot and its data source by variable, and uses metrics that exist.
func TestDashboardShowsWhatExists(t *testing.T) {
	t.Parallel()
	d, listed := readDashboard(t), listedMetrics(t)
	ids, taken := map[int]string{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] != "" || p.Title == "" {
			t.Errorf("panel %d %q: its id is used by %q, or it has no title", p.ID, p.Title, ids[p.ID])
		}
		ids[p.ID] = p.Title
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q overlaps with %q, or is too wide", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%q: data source %q, %d queries", p.Title, p.Datasource.UID, len(p.Targets))
		}
		for _, q := range p.Targets {
			checkExpr(t, p.Title, q.Expr, listed)
		}
	}
	for _, a := range d.Annotations.List {
		checkExpr(t, "annotation", a.Expr, listed)
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	if !slices.Equal(variables, []string{"datasource", "instance", "exchange"}) {
		t.Errorf("variables %v", variables)
	}
}
