package fleet

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"proxyd/internal/limit"
	"proxyd/internal/printable"
)

//go:embed row.lua
var rowText string

//go:embed rows.lua
var rowsText string

var rowScript, rowsScript = newScript(rowText), newScript(rowsText)

// Host is a process as the others see it: a row of the registry.
type Host struct {
	Process  string    `json:"process"` // unique: the machine's name and a random part
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Version  string    `json:"version"`
	Config   string    `json:"config"`         // hash of the configuration in force
	Lost     []string  `json:"lost,omitempty"` // exchanges and kinds that are lost or silent
	Retired  bool      `json:"retired,omitempty"`
	Alone    bool      `json:"alone,omitempty"` // its shared budgets are down to its share
	LastSeen time.Time `json:"-"`               // by Redis, on the clock of this host
	Gone     bool      `json:"-"`               // it was not heard for longer than a lease, and has not said that it ends
	Here     bool      `json:"-"`               // it is this process
}

const (
	rowTime   = time.Hour // so long a row stays
	rowBytes  = 4096
	rowsFresh = time.Second
	mostRows  = 5000
	mostLost  = 20
)

// rows are the rows of all, as they were read last.
type rows struct {
	mu   sync.Mutex
	list []Host
	at   time.Time
	err  error
}

// registryKeys are the keys of the registry: a hash, processes by lease, and those that
// are retired by lease.
func (f *Fleet) registryKeys() []string {
	prefix := "proxyd:" + f.o.Name + ":{fleet}:"
	return []string{prefix + "fleet", prefix + "processes", prefix + "retired"}
}

func (f *Fleet) rowKeys() []string {
	prefix := "proxyd:" + f.o.Name + ":{fleet}:rows"
	return []string{prefix, prefix + ":heard"}
}

// beat adds this process' sign of life to a pipeline; with end its last.
func (f *Fleet) beat(eval evaluate, end bool) *redis.Cmd {
	f.mu.Lock()
	retired := f.retired
	f.mu.Unlock()
	flag := map[bool]string{true: "1"}
	return eval(beatScript, f.registryKeys(), []any{f.process, leaseTime.Microseconds(), feedTime.Microseconds(), flag[retired], flag[end]})
}

// lived takes over the answer to beat.
func (f *Fleet) lived(v any, now time.Time) error {
	list, _ := v.([]any)
	if len(list) != 4 {
		return errReply
	}
	run, _ := list[1].(string)
	n, ok := numbers([]any{list[0], list[2], list[3]}, 3)
	if !ok {
		return errReply
	}
	f.clock.heard(n[0], now)
	f.run, f.feeding = run, now.Add(time.Duration(n[1])*time.Microsecond)
	if n[1] > 0 { // those that are there are not back yet
		f.hosts = max(f.hosts, int(n[2]))
	} else {
		f.hosts, f.seen = int(n[2]), true
	}
	return nil
}

// showRow adds this process' row to a pipeline; with end it is removed.
func (f *Fleet) showRow(eval evaluate, end bool) *redis.Cmd {
	text := []byte{}
	if !end {
		row := Host{}
		if f.o.Row != nil {
			row = f.o.Row()
		}
		row.Lost = row.Lost[:min(len(row.Lost), mostLost)]
		f.mu.Lock()
		row.Process, row.Host, row.Retired, row.Alone = f.process, f.o.Host, f.retired, !f.state.Used
		f.mu.Unlock()
		text, _ = json.Marshal(row) // plain fields cannot fail
	}
	return eval(rowScript, f.rowKeys(), []any{f.process, string(text), rowTime.Microseconds()})
}

// Hosts returns the rows of all processes that Redis has heard of in the last hour, by
// host, as they were a second ago at most. With an error they are those that were read
// last. Texts of other processes are made printable, and cut.
func (f *Fleet) Hosts(ctx context.Context) ([]Host, error) {
	r := &f.rows
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) < rowsFresh {
		return slices.Clone(r.list), r.err
	}
	list, err := f.readRows(ctx)
	if ctx.Err() != nil { // the caller gave up
		return slices.Clone(r.list), ctx.Err()
	}
	r.at, r.err = time.Now(), err
	if err == nil {
		r.list = list
	}
	return slices.Clone(r.list), r.err
}

func (f *Fleet) readRows(ctx context.Context) (list []Host, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	var cmd *redis.Cmd
	err = f.pipe(ctx, func(eval evaluate) []*redis.Cmd {
		cmd = eval(rowsScript, f.rowKeys(), []any{mostRows, rowBytes})
		return []*redis.Cmd{cmd}
	})
	if err != nil {
		return nil, err
	}
	now, alive := time.Now(), map[string]bool{}
	rows, _ := cmd.Val().([]any)
	for _, x := range rows[:min(len(rows), mostRows)] {
		if h, ok := parseHost(x, now); ok {
			h.Here = h.Process == f.process
			alive[h.Host] = alive[h.Host] || !h.Gone
			list = append(list, h)
		}
	}
	list = slices.DeleteFunc(list, func(h Host) bool { return h.Gone && alive[h.Host] }) // it was started again
	slices.SortFunc(list, func(a, b Host) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Process, b.Process)) })
	return list, nil
}

// parseHost reads one row, which another process has written.
func parseHost(x any, now time.Time) (h Host, ok bool) {
	fields, _ := x.([]any)
	if len(fields) != 2 {
		return h, false
	}
	age, isNumber := fields[0].(int64)
	text, isText := fields[1].(string)
	if !isNumber || !isText || len(text) > rowBytes || json.Unmarshal([]byte(text), &h) != nil || h.Process == "" {
		return h, false
	}
	seen := time.Duration(min(max(age, 0), rowTime.Microseconds())) * time.Microsecond
	h.LastSeen, h.Gone = now.Add(-seen), seen > leaseTime
	h.Process, h.Host, h.Version, h.Config = printable.Clean(h.Process, 80), hostName(h.Host), printable.Clean(h.Version, 40), printable.Clean(h.Config, 80)
	h.PID = max(0, h.PID)
	h.Lost = h.Lost[:min(len(h.Lost), mostLost)]
	for i := range h.Lost {
		h.Lost[i] = printable.Clean(h.Lost[i], 80)
	}
	return h, true
}

// Total is a shared budget as all hosts see it.
type Total struct {
	Budget  limit.Key
	Limits  limit.Limits // the smallest of all hosts, which hold
	Used    int          // in the window
	Open    int          // connections
	Heard   time.Time    // when Redis last said so; zero: never
	Differs bool         // hosts have different limits
}

// Totals returns the shared budgets that are in use here, as all hosts see them.
func (f *Fleet) Totals() (list []Total) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.entries {
		if !e.limits.IsSet() {
			continue
		}
		t := Total{Budget: e.key, Limits: e.limits, Heard: e.heard, Differs: e.differs}
		if !e.heard.IsZero() {
			t.Limits, t.Used, t.Open = e.force, e.used, e.total
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b Total) int {
		return cmp.Or(cmp.Compare(a.Budget.Exit, b.Budget.Exit), cmp.Compare(a.Budget.Exchange, b.Budget.Exchange), cmp.Compare(a.Budget.Kind, b.Budget.Kind))
	})
	return list
}

// Verdicts returns those of all hosts that hold, this one's included.
func (f *Fleet) Verdicts() (list []Verdict) {
	now := time.Now()
	f.board.mu.Lock()
	defer f.board.mu.Unlock()
	for _, v := range f.board.known {
		if v.Word != Ejected && now.Before(v.Until) {
			list = append(list, v.Verdict)
		}
	}
	slices.SortFunc(list, func(a, b Verdict) int {
		return cmp.Or(cmp.Compare(a.Exit, b.Exit), cmp.Compare(a.Exchange, b.Exchange), cmp.Compare(a.Kind, b.Kind))
	})
	return list
}
