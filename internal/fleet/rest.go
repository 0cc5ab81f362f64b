package fleet

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"time"
)

//go:embed rest.lua
var restText string

var restScript = newScript(restText)

// fullEvery is how often a call says all that there is to say of an exit; those between
// only say that this process lives. It is well below three times leaseTime, after which Redis
// forgets the limits that a process has said.
const fullEvery = 2 * leaseTime

// atRest reports whether Redis knows all that this process has to say of x.
func (f *Fleet) atRest(x *exit, now time.Time) bool {
	return !x.dirty && !x.feeding && !f.retired && x.run != "" && x.hosts == f.shareHosts() && now.Sub(x.full) < fullEvery &&
		(f.client.cluster || x.run == f.run && now.After(f.feeding))
}

// restCall returns a call for an exit that is at rest: a sign of life, which is answered
// with what Redis has counted last.
func (f *Fleet) restCall(x *exit, until time.Time) *call {
	c := &call{exit: x, script: restScript}
	prefix := f.prefix(x.name)
	c.keys = []string{prefix + "exit", prefix + "step", prefix + "lease"}
	c.add(f.process, f.clock.at(until), leaseTime.Microseconds(), f.inStep(x).Microseconds(), x.run)
	for _, e := range x.entries {
		if !e.limits.IsSet() && e.open == 0 {
			continue // no longer shared
		}
		c.entries = append(c.entries, e)
		c.add(e.name(), fmt.Sprintf("%d/%d/%d", e.limits.Connects, e.limits.Per.Microseconds(), e.limits.MaxConnections))
	}
	return c
}

// inStep returns, and keeps, how long Redis is to take this process for one in step.
func (f *Fleet) inStep(x *exit) time.Duration {
	x.step = inStepTime
	if now := time.Now(); now.Sub(x.used) < activeTime && f.crowd(now) <= smallCrowd {
		x.step = activeStep
	}
	return x.step
}

// smallCrowd is up to which crowd exits that are in use have beats of their own.
const smallCrowd = 200

// crowd returns how many calls all hosts might make at the same time for connections, if
// they do what this one does.
func (f *Fleet) crowd(now time.Time) int {
	n := 0
	for _, x := range f.exits {
		if now.Sub(x.used) < activeTime {
			n++
		}
	}
	return n * max(1, f.hosts)
}

// parseRest returns the reply to a call of restCall.
func (c *call) parseRest(r reply, list []any) (reply, error) {
	if list[0] == "full" {
		r.full = true
		return r, nil
	}
	if len(list) != 3 {
		return r, errReply
	}
	r.run = c.exit.run
	rows, _ := list[2].([]any)
	if len(rows) != len(c.entries) {
		return r, errReply
	}
	for _, x := range rows {
		var w row
		var per int64
		text, _ := x.(string)
		if n, err := fmt.Sscan(text, &w.used, &w.open, &w.connects, &per, &w.max, &w.differ); n != 6 || err != nil {
			return r, errReply
		}
		w.per = time.Duration(per) * time.Microsecond
		r.rows = append(r.rows, w)
	}
	return r, nil
}

// spread returns a time at random, by which the hosts do together what all of them are
// about to do: each takes Redis some milliseconds.
func (f *Fleet) spread() time.Duration {
	const each, most = 10 * time.Millisecond, 10 * time.Second
	return rand.N(min(each*time.Duration(max(1, f.shareHosts())), most)) //nolint:gosec // spreads load, guards nothing
}
