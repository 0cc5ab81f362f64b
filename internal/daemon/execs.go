package daemon

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"proxyd/internal/admin"
	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// What is kept: the label comes from the client.
const (
	maxExecs        = 32 // labels; the oldest one without tunnels goes
	maxExecRefusals = 8  // refusals of a label that differ
	maxExecDirect   = 16 // targets that the one of its own reached directly
)

// execLabel is the user name that proxyd exec gives the clients of its command.
var execLabel = regexp.MustCompile(`^exec-[0-9]{1,10}$`)

// execs counts what came from each proxyd exec. It is safe for concurrent use.
type execs struct {
	own     bool                    // all of it comes from one, whatever the label
	refused func(admin.ExecRefusal) // as Inside.Refused; nil for none

	mu   sync.Mutex
	list []*admin.Exec // the oldest first
}

func newExecs(own bool) *execs {
	e := &execs{own: own}
	if own {
		e.list = append(e.list, &admin.Exec{})
	}
	return e
}

// observe counts a record.
func (e *execs) observe(r *tunnel.Record) {
	if !e.own && (!strings.HasPrefix(r.Label, "exec-") || !execLabel.MatchString(r.Label)) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.row(r.Label)
	switch r.Event {
	case tunnel.Opened:
		x.Open++
		upstreamOf(x, r.Upstream).Connections++
		e.direct(x, r)
	case tunnel.Ended, tunnel.Moved:
		x.Open = max(0, x.Open-1)
		u := upstreamOf(x, r.Upstream)
		u.BytesUp, u.BytesDown = u.BytesUp+r.Up, u.BytesDown+r.Down
	case tunnel.Served:
		u := upstreamOf(x, r.Upstream)
		u.Connections, u.BytesUp, u.BytesDown = u.Connections+1, u.BytesUp+r.Up, u.BytesDown+r.Down
		e.direct(x, r)
	case tunnel.Refused:
		e.refusal(x, r)
	case tunnel.Unlisted: // its tunnel counts
	}
}

// direct counts a connection of an instance of its own by its target, if no upstream
// carries it.
func (e *execs) direct(x *admin.Exec, r *tunnel.Record) {
	if !e.own || r.Upstream != "direct" {
		return
	}
	row := func(target string) int {
		return slices.IndexFunc(x.Direct, func(d admin.ExecDirect) bool { return d.Target == target && d.Rule == r.Rule })
	}
	target := net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))
	i := row(target)
	if i < 0 && len(x.Direct) >= maxExecDirect {
		target = "" // the others of that rule
		i = row(target)
	}
	if i < 0 {
		i = len(x.Direct)
		x.Direct = append(x.Direct, admin.ExecDirect{Target: target, Rule: r.Rule})
	}
	x.Direct[i].Connections++
}

// row returns the row of a label. The caller holds mu.
func (e *execs) row(label string) *admin.Exec {
	if e.own {
		return e.list[0]
	}
	if i := slices.IndexFunc(e.list, func(x *admin.Exec) bool { return x.Label == label }); i >= 0 {
		return e.list[i]
	}
	if len(e.list) == maxExecs {
		oldest := max(0, slices.IndexFunc(e.list, func(x *admin.Exec) bool { return x.Open == 0 }))
		e.list = slices.Delete(e.list, oldest, oldest+1)
	}
	e.list = append(e.list, &admin.Exec{Label: label})
	return e.list[len(e.list)-1]
}

// upstreamOf returns a row's counters of an upstream.
func upstreamOf(x *admin.Exec, name string) *admin.ExecUpstream {
	i := slices.IndexFunc(x.Upstreams, func(u admin.ExecUpstream) bool { return u.Upstream == name })
	if i < 0 {
		i = len(x.Upstreams)
		x.Upstreams = append(x.Upstreams, admin.ExecUpstream{Upstream: name})
	}
	return &x.Upstreams[i]
}

// refusal counts a refusal. What an instance of its own says names the target, as long
// as there are few.
func (e *execs) refusal(x *admin.Exec, r *tunnel.Record) {
	x.Refused++
	row := func(text string) int {
		return slices.IndexFunc(x.Refusals, func(f admin.ExecRefusal) bool { return f.Text == text })
	}
	text := r.Text
	if e.own && r.Host != "" && !strings.Contains(text, r.Host) {
		text = net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))) + ": " + text
	}
	i := row(text)
	if i < 0 && len(x.Refusals) >= maxExecRefusals/2 {
		text = r.Text
		i = row(text)
	}
	switch {
	case i >= 0:
		x.Refusals[i].Count++
	case len(x.Refusals) < maxExecRefusals:
		i = len(x.Refusals)
		x.Refusals = append(x.Refusals, admin.ExecRefusal{Text: text, Hint: r.Hint, Count: 1})
		if e.own && r.Class == failure.Denied {
			x.Refusals[i].Host = r.Host
		}
	default:
		return
	}
	if e.refused != nil {
		e.refused(x.Refusals[i])
	}
}

// rows returns a copy, the oldest first.
func (e *execs) rows() []admin.Exec {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []admin.Exec
	for _, x := range e.list {
		row := *x
		row.Upstreams, row.Refusals, row.Direct = slices.Clone(x.Upstreams), slices.Clone(x.Refusals), slices.Clone(x.Direct)
		list = append(list, row)
	}
	return list
}
