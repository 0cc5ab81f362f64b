package main

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/printable"
)

// settledWithin is how long the tunnels of a command that has ended may take to end
// too: a process that it has left behind may hold some.
const settledWithin = 2 * time.Second

// settled asks until no tunnel is open and, so many times, the answer is the same: a
// plain request is counted just after its client has the answer.
func settled(ask func() (admin.Exec, error), same int) (x admin.Exec, err error) {
	seen := 0
	for end := time.Now().Add(settledWithin); ; time.Sleep(50 * time.Millisecond) {
		last := x
		if x, err = ask(); err != nil {
			return x, err
		}
		if seen++; x.Open > 0 || !reflect.DeepEqual(x, last) {
			seen = 0
		}
		if seen >= same && x.Open == 0 || time.Now().After(end) {
			return x, nil
		}
	}
}

// execRow returns the row of a label.
func execRow(s admin.Status, label string) admin.Exec {
	for _, x := range s.Execs {
		if x.Label == label {
			return x
		}
	}
	return admin.Exec{Label: label}
}

// since returns what has come on top of an earlier row: a process before this one may
// have had its id.
func since(before, now admin.Exec) admin.Exec {
	now.Open = max(0, now.Open-before.Open)
	now.Refused -= before.Refused
	for i := range now.Upstreams {
		u := &now.Upstreams[i]
		if j := slices.IndexFunc(before.Upstreams, func(b admin.ExecUpstream) bool { return b.Upstream == u.Upstream }); j >= 0 {
			b := before.Upstreams[j]
			u.Connections, u.BytesUp, u.BytesDown = u.Connections-b.Connections, u.BytesUp-b.BytesUp, u.BytesDown-b.BytesDown
		}
	}
	for i := range now.Refusals {
		r := &now.Refusals[i]
		if j := slices.IndexFunc(before.Refusals, func(b admin.ExecRefusal) bool { return b.Text == r.Text }); j >= 0 {
			r.Count -= before.Refusals[j].Count
		}
	}
	now.Upstreams = slices.DeleteFunc(now.Upstreams, func(u admin.ExecUpstream) bool { return u.Connections == 0 })
	now.Refusals = slices.DeleteFunc(now.Refusals, func(r admin.ExecRefusal) bool { return r.Count == 0 })
	return now
}

// writeUsed writes the last lines: what went through which upstream, what was
// refused, or that nothing came.
func writeUsed(say func(string, ...any), x admin.Exec, err error, p *execProxy) {
	if err != nil {
		say("what came through proxyd is not known: %v", err)
		return
	}
	var others []string
	connected := false
	if p.others != nil {
		others, connected = p.others()
	}
	writeThrough(say, x, p, connected)
	for _, line := range others {
		say("%s", line)
	}
}

// writeThrough writes what came through proxyd, and warns if nothing came; connected is
// whether the command has connected elsewhere, as it is to.
func writeThrough(say func(string, ...any), x admin.Exec, p *execProxy, connected bool) {
	if len(x.Upstreams) == 0 && x.Refused == 0 && connected {
		return
	}
	if len(x.Upstreams) == 0 && x.Refused == 0 {
		hint := "the command opened no connection, or connects directly: see proxyd env --for, docs/clients.md"
		switch {
		case p.shared:
			hint += "; clients that send no user name, such as Java's, are not counted"
		case p.isolated:
			hint = "the command opened no connection but to its own loopback"
		}
		say("warning: nothing came through proxyd: %s", hint)
		return
	}
	var parts []string
	for _, u := range x.Upstreams {
		parts = append(parts, fmt.Sprintf("%s through %s (%s up, %s down)", printable.Count(u.Connections, "connection", "connections"), u.Upstream, shortBytes(float64(u.BytesUp)), shortBytes(float64(u.BytesDown))))
	}
	if x.Open > 0 {
		parts = append(parts, fmt.Sprintf("%d still open", x.Open))
	}
	for _, r := range x.Refusals {
		say("refused, %s: %s", printable.Count(r.Count, "time", "times"), refusalText(r, p.isolated))
	}
	if x.Refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused", x.Refused))
	}
	say("%s", strings.Join(parts, ", "))
	for _, d := range x.Direct {
		if strings.HasPrefix(d.Rule, allowFlag+" ") {
			say("directly, by %s: %s to %s", d.Rule, printable.Count(d.Connections, "connection", "connections"), cmp.Or(d.Target, "other targets"))
		}
	}
}

// refusalText returns a refusal with its remedy. A host that a rule refused may be the
// command's own database.
func refusalText(r admin.ExecRefusal, isolated bool) string {
	text := r.Text
	if r.Hint != "" {
		text += "; " + r.Hint
	}
	if isolated && r.Host != "" {
		text += "; if it is one of your own network: " + allowFlag + " " + r.Host
	}
	return text
}

const (
	refusedAfter = time.Second      // until a refusal is said: the last lines say it if the command ends before
	refusedAgain = 10 * time.Minute // until the same one is said again
)

// sayRefusals says what is refused while a command runs, until done is closed: a client
// whose connection was redirected has seen a reset, and no reason.
func sayRefusals(say func(string, ...any), refused <-chan admin.ExecRefusal, done <-chan struct{}) {
	said := map[string]time.Time{} // by text, of which there are few
	for {
		select {
		case <-done:
			return
		case r := <-refused:
			if at, ok := said[r.Text]; ok && time.Since(at) < refusedAgain {
				continue
			}
			select {
			case <-done:
				return
			case <-time.After(refusedAfter):
			}
			said[r.Text] = time.Now()
			say("refused: %s", refusalText(r, true))
		}
	}
}
