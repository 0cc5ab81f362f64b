package fleet

import (
	_ "embed"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"proxyd/internal/limit"
)

//go:embed kept.lua
var keptText string

//go:embed call.lua
var callText string

//go:embed feed.lua
var feedText string

//go:embed hold.lua
var holdText string

//go:embed beat.lua
var beatText string

// The scripts, with their SHA-1 by which Redis knows them.
var (
	callScript = newScript(keptText + callText)
	feedScript = newScript(feedText)
	beatScript = newScript(beatText)
	holdScript = newScript(keptText + holdText)
)

type script struct{ text, sha string }

func newScript(text string) script { return script{text, redis.NewScript(text).Hash()} }

// call is one call for one exit: what is said, and what is asked.
type call struct {
	exit    *exit
	script  script
	hosts   int // as said
	entries []*entry
	open    []int // as said
	asks    []limit.Ask
	from    []int // for each of asks: its question
	cmd     *redis.Cmd
	keys    []string
	args    []any
}

// Names in Redis. What belongs to one exit has one hash tag, for Redis Cluster.
func (f *Fleet) prefix(exit string) string {
	return "proxyd:" + f.o.Name + ":{" + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(exit) + "}:"
}

func (e *entry) name() string {
	if e.key.Exchange == "" {
		return "exit"
	}
	return e.key.Exchange + "/" + e.key.Kind
}

// newCall returns a call for an exit, with what is to be said of it. until is the time
// after which it grants nothing.
func (f *Fleet) newCall(x *exit, questions []question, until time.Time) *call {
	c := &call{exit: x, script: callScript, hosts: f.shareHosts()}
	prefix := f.prefix(x.name)
	index := map[limit.Key]int{}
	c.keys = []string{prefix + "exit", prefix + "step", prefix + "lease", prefix + "hosts"}
	asked := keysOf(questions)
	for _, e := range x.entries {
		if !e.limits.IsSet() && e.open == 0 && !asked[e.key] {
			continue // no longer shared
		}
		c.entries, c.open = append(c.entries, e), append(c.open, e.open)
		index[e.key] = len(c.entries)
		c.keys = append(c.keys, prefix+"slots:"+e.name(), prefix+"open:"+e.name(), prefix+"limits:"+e.name())
	}
	registry := f.run
	switch {
	case f.client.cluster:
		registry = "" // of another node
	case time.Now().Before(f.feeding):
		registry = "another"
	}
	retired := ""
	if f.retired {
		retired = "1"
	}
	lease := leaseTime
	if f.left {
		lease = time.Millisecond
	}
	c.add(f.process, f.clock.at(until), lease.Microseconds(), f.inStep(x).Microseconds(), max(1, c.hosts), feedTime.Microseconds(), x.run, registry, retired, prefix, len(c.entries))
	var ops []any
	for i, e := range c.entries {
		c.add(e.name(), e.limits.Connects, e.limits.Per.Microseconds(), e.limits.MaxConnections, c.open[i])
		for _, o := range e.ops {
			ops = append(ops, i+1, o.what, o.id)
		}
		e.ops = nil
	}
	c.add(len(ops) / 3)
	c.args = append(c.args, ops...)
	at := len(c.args)
	c.add(0)
	for q := range questions {
		for _, a := range questions[q].asks {
			c.asks, c.from = append(c.asks, a), append(c.from, q)
			c.add(f.slotID(a.ID), a.Dial.Microseconds(), len(a.Keys))
			for _, k := range a.Keys {
				c.add(index[k])
			}
		}
	}
	c.args[at] = len(c.asks)
	x.dirty = false
	return c
}

// keysOf returns the budgets that questions are about.
func keysOf(questions []question) map[limit.Key]bool {
	asked := map[limit.Key]bool{}
	for _, q := range questions {
		for _, a := range q.asks {
			for _, k := range a.Keys {
				asked[k] = true
			}
		}
	}
	return asked
}

func (c *call) add(args ...any) { c.args = append(c.args, args...) }

// reply is what Redis answers to a call.
type reply struct {
	late    bool
	full    bool // a call with all that there is to say is needed
	now     int64
	run     string
	feeding time.Duration // for so long it is fed; 0: it is not
	rows    []row
	answers []limit.Answer
}

// row is a budget as all see it.
type row struct {
	used, open, connects int
	per                  time.Duration
	max, differ          int
}

var errReply = errors.New("an answer that is none of the script's")

// parse returns the reply to c.
func (c *call) parse(v any) (r reply, err error) {
	list, ok := v.([]any)
	if !ok || len(list) < 2 {
		return r, errReply
	}
	r.now, _ = list[1].(int64)
	if list[0] == "late" {
		r.late = true
		return r, nil
	}
	if c.script == restScript {
		return c.parseRest(r, list)
	}
	if len(list) != 6 {
		return r, errReply
	}
	r.run, _ = list[2].(string)
	left, _ := list[3].(int64)
	r.feeding = time.Duration(left) * time.Microsecond
	rows, _ := list[4].([]any)
	answers, _ := list[5].([]any)
	if len(rows) != len(c.entries) || len(answers) != len(c.asks) {
		return r, errReply
	}
	for _, x := range rows {
		n, ok := numbers(x, 6)
		if !ok {
			return r, errReply
		}
		r.rows = append(r.rows, row{int(n[0]), int(n[1]), int(n[2]), time.Duration(n[3]) * time.Microsecond, int(n[4]), int(n[5])})
	}
	for _, x := range answers {
		a, err := c.answer(x)
		if err != nil {
			return r, err
		}
		r.answers = append(r.answers, a)
	}
	return r, nil
}

func (c *call) answer(x any) (a limit.Answer, err error) {
	list, _ := x.([]any)
	if len(list) != 4 {
		return a, errReply
	}
	n, ok := numbers(list[1:], 3)
	switch list[0] {
	case "granted":
		a.Granted = true
	case "feeding":
		a.Alone = true
	default:
		if !ok || n[0] < 1 || int(n[0]) > len(c.entries) {
			return a, errReply
		}
		a.Full, a.Max, a.RetryAfter = c.entries[n[0]-1].key, n[1] == 1, time.Duration(n[2])*time.Microsecond
	}
	return a, nil
}

func numbers(x any, count int) ([]int64, bool) {
	list, _ := x.([]any)
	if len(list) != count {
		return nil, false
	}
	out := make([]int64, count)
	for i := range list {
		n, ok := list[i].(int64)
		if !ok {
			return nil, false
		}
		out[i] = n
	}
	return out, true
}
