package metrics

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

var update = flag.Bool("update", false, "write docs/metrics.md")

// collected are metrics of the client library that alerts and dashboard use.
var collected = []family{
	{"process_open_fds", gauge, "Open file descriptors.", nil},
	{"process_max_fds", gauge, "The limit of open file descriptors.", nil},
	{"process_cpu_seconds_total", counter, "CPU time used.", nil},
	{"process_resident_memory_bytes", gauge, "Memory in use.", nil},
	{"process_start_time_seconds", gauge, "When the process started, in Unix time.", nil},
	{"go_goroutines", gauge, "Goroutines.", nil},
}

const documentHead = `# Metrics

What ` + "`/metrics`" + ` of the [admin address](api.md#addresses) shows. This page is generated from the declarations in
` + "`internal/metrics/families.go`" + ` (` + "`go generate .`" + `); a test fails when it is out of date. How to connect Prometheus, with alerts and a
dashboard: [operations.md](operations.md#monitoring).

No value of a label comes from a client: they come from the configuration and the catalogue.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
`

const documentSeries = `
## How many series

The series of an exchange and kind through an upstream (a feed) are there from its first request on, and hidden after an
hour without traffic and without an open tunnel; when they come back, their totals go on, unless new feeds needed the
room. At most %d feeds have series of their own; what further ones carry is counted under ` + "`upstream=\"other\"`" + ` of their exchange and kind. The same holds for
` + "`proxyd_dial_duration_seconds` and `proxyd_dial_errors_total`" + `, for upstreams. Series of an upstream or exchange that a reload removes
go away with its last tunnel. Counters begin at 0 in each process: after an upgrade, too, and a tunnel that moved is counted on from where it was.
`

// docs/metrics.md lists what is declared, and nothing else.
func TestDocumentListsTheDeclarations(t *testing.T) {
	const file = "../../docs/metrics.md"
	want := document(t)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("%s is not what is declared; run: go generate .", file)
	}
}

func document(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(documentHead)
	for _, f := range families {
		writeRow(&b, prefix, f)
	}
	b.WriteString("\nOf those of Go and of the process itself (`go_*`, `process_*`; the latter on Linux and Windows), these are used by the alerts and the dashboard:\n\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range collected {
		writeRow(&b, "", f)
	}
	b.WriteString("\n## Labels\n\n| label | values |\n| --- | --- |\n")
	for _, l := range labels {
		fmt.Fprintf(&b, "| `%s` | %s |\n", l.name, l.values)
	}
	fmt.Fprintf(&b, documentSeries, maxFeeds)
	b.WriteString("\n## Events\n\nValues of `type`. Each is there for every severity from the start, so that the first event counts.\n\n| type | what happened |\n| --- | --- |\n")
	for _, c := range constants(t, "Type", "../event/event.go") {
		fmt.Fprintf(&b, "| `%s` | %s |\n", c[0], c[1])
	}
	b.WriteString("\n## Reasons\n\nValues of `reason`. Options are keys below `tunnel` in the configuration.\n\n| reason | why the tunnel ended |\n| --- | --- |\n")
	for _, c := range constants(t, "Reason", "../relay/relay.go") {
		fmt.Fprintf(&b, "| `%s` | %s |\n", c[0], reasons[c[0]])
		if reasons[c[0]] == "" {
			t.Errorf("reasons lacks %q: %s", c[0], c[1])
		}
	}
	for _, r := range []string{string(tunnel.ReasonAbandoned), string(tunnel.ReasonMoved)} {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r, reasons[r])
	}
	return b.String()
}

// reasons explains the values of reason.
var reasons = map[string]string{
	"eof":         "both sides ended in order",
	"reset":       "one side reset its connection",
	"dead_peer":   "the path to one side is dead",
	"idle":        "no byte for `tunnel.idle_seconds`",
	"stall":       "fewer than `tunnel.stall_bytes` from the target within `tunnel.stall_seconds`",
	"half_close":  "one side had ended, and the other did not within `tunnel.half_close_seconds`",
	"closed":      "proxyd closed it: an operator asked for it, a reload removed its upstream, or the daemon stopped",
	"silence":     "the feed was silent, and `silence` has `action: close`",
	"error":       "anything else; the log says what",
	"client_gone": "the client had left before it was answered",
	"moved":       "it lives on in the next process, after an upgrade",
}

func writeRow(b *strings.Builder, prefix string, f family) {
	names := make([]string, 0, len(f.labels))
	for _, l := range f.labels {
		names = append(names, "`"+l+"`")
	}
	fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", prefix, f.name, f.kind, strings.Join(names, ", "), f.help)
}

// constants returns the values and comments of the constants of a type in a file.
func constants(t *testing.T, of, file string) (list [][2]string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		typ, _ := spec.Type.(*ast.Ident)
		value, _ := spec.Values[0].(*ast.BasicLit)
		if typ == nil || typ.Name != of || value == nil {
			return true
		}
		word, err := strconv.Unquote(value.Value)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, [2]string{word, strings.TrimSpace(spec.Comment.Text())})
		return true
	})
	if len(list) == 0 {
		t.Fatalf("%s has no constants of type %s", file, of)
	}
	return list
}

// Every declared metric is shown once all sources have something to say, with
// the labels that are declared; no other is shown; and each label is explained.
func TestEveryDeclaredMetricIsShown(t *testing.T) {
	t.Parallel()
	m := New(full())
	m.Reloaded("applied", true, time.Now())
	m.FleetCall(true, time.Millisecond)
	o := opening("a", "binance", catalog.KindHTTP, "tokyo-1")
	o.Attempts = []failure.Attempt{{Upstream: "direct", Class: failure.Local}}
	m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: o})
	m.Observe(&tunnel.Record{Event: tunnel.Ended, Opening: o, ClosedBy: "client", Reason: "eof"})
	gathered, err := m.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, g := range gathered {
		var names []string
		for _, l := range g.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		shown[g.GetName()] = strings.ToLower(g.GetType().String()) + " " + strings.Join(names, " ")
	}
	for _, f := range families {
		sorted := slices.Sorted(slices.Values(f.labels))
		if got, want := shown[prefix+f.name], f.kind+" "+strings.Join(sorted, " "); got != want {
			t.Errorf("%s is shown as %q, and declared as %q", f.name, got, want)
		}
		delete(shown, prefix+f.name)
		for _, name := range f.labels {
			if !slices.ContainsFunc(labels, func(l label) bool { return l.name == name }) {
				t.Errorf("labels does not explain %s of %s", name, f.name)
			}
		}
	}
	for name := range shown {
		if strings.HasPrefix(name, prefix) {
			t.Errorf("%s is not declared", name)
		}
	}
	for _, l := range labels {
		if !slices.ContainsFunc(families, func(f family) bool { return slices.Contains(f.labels, l.name) }) {
			t.Errorf("no metric has the label %s", l.name)
		}
	}
}

// event.Types and event.Severities are complete: each has its series.
func TestEveryEventTypeHasItsSeries(t *testing.T) {
	t.Parallel()
	for _, c := range constants(t, "Type", "../event/event.go") {
		if !slices.Contains(event.Types[:], event.Type(c[0])) {
			t.Errorf("event.Types lacks %q", c[0])
		}
	}
	for _, c := range constants(t, "Severity", "../event/event.go") {
		if !slices.Contains(event.Severities[:], event.Severity(c[0])) {
			t.Errorf("event.Severities lacks %q", c[0])
		}
	}
}
