package daemon

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/admin"
	"proxyd/internal/tunnel"
)

// The records of a label that proxyd exec gives are counted; other names are not, and
// what clients make up cannot grow the table.
func TestExecsCountByLabel(t *testing.T) {
	t.Parallel()
	e := newExecs(false)
	record := func(event tunnel.Event, label, upstream string) *tunnel.Record {
		return &tunnel.Record{Event: event, Opening: tunnel.Opening{Label: label, Upstream: upstream}, Up: 2, Down: 3, Text: "closed", Hint: "open it"}
	}
	for _, label := range []string{"", "bot-1", "exec-", "exec-x", "exec-12345678901", "exec-7 "} {
		e.observe(record(tunnel.Opened, label, "tokyo"))
	}
	if got := e.rows(); got != nil {
		t.Errorf("counted: %v", got)
	}
	for _, r := range []*tunnel.Record{
		record(tunnel.Unlisted, "exec-7", "tokyo"), record(tunnel.Opened, "exec-7", "tokyo"), record(tunnel.Opened, "exec-7", "tokyo"),
		record(tunnel.Ended, "exec-7", "tokyo"), record(tunnel.Served, "exec-7", "direct"), record(tunnel.Refused, "exec-7", ""), record(tunnel.Refused, "exec-7", ""),
	} {
		e.observe(r)
	}
	want := []admin.Exec{{
		Label: "exec-7", Open: 1, Refused: 2, Refusals: []admin.ExecRefusal{{Text: "closed", Hint: "open it", Count: 2}},
		Upstreams: []admin.ExecUpstream{{Upstream: "tokyo", Connections: 2, BytesUp: 2, BytesDown: 3}, {Upstream: "direct", Connections: 1, BytesUp: 2, BytesDown: 3}},
	}}
	if diff := cmp.Diff(want, e.rows()); diff != "" {
		t.Error(diff)
	}
	for i := range 100 {
		r := record(tunnel.Refused, fmt.Sprintf("exec-%d", 1000+i%(maxExecs+5)), "")
		r.Text = fmt.Sprint(i)
		e.observe(r)
	}
	if rows := e.rows(); len(rows) != maxExecs || rows[0].Label != "exec-7" { // it has a tunnel
		t.Errorf("%d rows, the oldest of %s", len(rows), rows[0].Label)
	}
	for i := range 2 * maxExecRefusals {
		r := record(tunnel.Refused, "exec-9", "")
		r.Text = fmt.Sprint(i)
		e.observe(r)
	}
	rows := e.rows()
	if last := rows[len(rows)-1]; last.Refused != 2*maxExecRefusals || len(last.Refusals) != maxExecRefusals {
		t.Errorf("%+v", last)
	}
	own := newExecs(true)
	own.observe(record(tunnel.Opened, "bot-1", "tokyo"))
	own.observe(record(tunnel.Opened, "", "tokyo"))
	if got := own.rows(); len(got) != 1 || got[0].Open != 2 {
		t.Errorf("an instance of its own: %+v", got)
	}
}

// Each connection that an instance of its own made directly is counted by its rule, also
// where there are more targets than are named.
func TestExecsCountWhatWentDirectly(t *testing.T) {
	t.Parallel()
	e := newExecs(true)
	for i := range uint16(3 * maxExecDirect) {
		for _, rule := range []string{"--allow 10.0.0.0/8", "--allow db.example"} {
			e.observe(&tunnel.Record{Event: tunnel.Opened, Opening: tunnel.Opening{Upstream: "direct", Host: "10.0.0.1", Port: i/2 + 1, Rule: rule}})
		}
	}
	direct, named, counted := e.rows()[0].Direct, 0, map[string]int{}
	for _, d := range direct {
		if counted[d.Rule] += d.Connections; d.Target != "" {
			named++
		}
	}
	if named != maxExecDirect || len(direct) != maxExecDirect+2 || counted["--allow 10.0.0.0/8"] != 3*maxExecDirect || counted["--allow db.example"] != 3*maxExecDirect {
		t.Errorf("%d named, counted %v: %+v", named, counted, direct)
	}
}

// A refusal of an instance of its own names its target, while there are few of them;
// that of a shared one does not.
func TestExecsNameWhatWasRefused(t *testing.T) {
	t.Parallel()
	refused := func(e *execs, port uint16, text string) {
		e.observe(&tunnel.Record{Event: tunnel.Refused, Opening: tunnel.Opening{Label: "exec-7", Host: "db.example", Port: port}, Text: text})
	}
	own, shared := newExecs(true), newExecs(false)
	for _, e := range []*execs{own, shared} {
		refused(e, 1, "target db.example is rejected")
		for port := range uint16(2 * maxExecRefusals) {
			refused(e, port, "direct was refused")
			refused(e, port, "direct was refused")
		}
	}
	want := []admin.ExecRefusal{{Text: "target db.example is rejected", Count: 1}}
	if got := shared.rows()[0].Refusals; !slices.Equal(got, append(want, admin.ExecRefusal{Text: "direct was refused", Count: 4 * maxExecRefusals})) {
		t.Errorf("a shared one: %+v", got)
	}
	for port := range maxExecRefusals/2 - 1 {
		want = append(want, admin.ExecRefusal{Text: fmt.Sprintf("db.example:%d: direct was refused", port), Count: 2})
	}
	want = append(want, admin.ExecRefusal{Text: "direct was refused", Count: 4*maxExecRefusals - 2*(maxExecRefusals/2-1)})
	if got := own.rows()[0].Refusals; !slices.Equal(got, want) {
		t.Errorf("one of its own: %+v, want %+v", got, want)
	}
}
