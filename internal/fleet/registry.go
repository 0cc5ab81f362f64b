package fleet

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"math/rand/v2"
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
	firstRead = 5 * time.Second // the rows are read without a question so long after the start, at most
	nextRead  = 10 * time.Second
	readEach  = 200 * time.Millisecond // at least so long, times the hosts, between two such readings
	mostRows  = 5000
	mostLost  = 20
)

// rows are the rows of all, as they were read last.
type rows struct {
	mu    sync.Mutex
	list  []Host
	read  time.Time // zero: never
	tried time.Time
	err   error
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

// own returns this process' row as it is now.
func (f *Fleet) own() (h Host) {
	if f.o.Row != nil {
		h = f.o.Row()
	}
	h.Lost = h.Lost[:min(len(h.Lost), mostLost)]
	h.LastSeen, h.Gone, h.Here = time.Now(), false, true
	f.mu.Lock()
	defer f.mu.Unlock()
	h.Process, h.Host, h.Retired, h.Alone = f.process, f.o.Host, f.retired, !f.state.Used
	return h
}

// showRow adds this process' row to a pipeline; with end it is removed.
func (f *Fleet) showRow(eval evaluate, end bool) *redis.Cmd {
	text := []byte{}
	if !end {
		text, _ = json.Marshal(f.own()) // plain fields cannot fail
	}
	return eval(rowScript, f.rowKeys(), []any{f.process, string(text), rowTime.Microseconds()})
}

// keepRows reads the rows of all now and then until ctx ends: they are to be there when
// Redis is not.
func (f *Fleet) keepRows(ctx context.Context) {
	least := firstRead
	for {
		most := max(least, f.readTime())
		select {
		case <-ctx.Done():
			return
		case <-time.After(most/2 + rand.N(most/2)): // not all hosts at once
		}
		if f.readTime() > most { // many have come meanwhile
			continue
		}
		_, _, _ = f.Hosts(ctx) // the next one who asks hears of the error
		least = nextRead
	}
}

// readTime returns how long apart two readings are at least: each host reads as many rows
// as there are hosts.
func (f *Fleet) readTime() time.Duration {
	f.rows.mu.Lock()
	n := len(f.rows.list)
	f.rows.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Duration(max(n, f.hosts, f.o.Hosts)) * readEach
}

// Hosts returns the rows of all processes that Redis has heard of in the last hour, by
// host, and when they were read: a second ago at most. With an error those of the others
// are as they were read last; the zero time: never. The row of this process is always as
// it is now. The error says what to do about it. Texts of other processes are made
// printable, and cut.
func (f *Fleet) Hosts(ctx context.Context) (list []Host, read time.Time, err error) {
	r := &f.rows
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.tried) >= rowsFresh {
		list, err := f.readRows(ctx)
		if ctx.Err() != nil { // the caller gave up
			return f.withOwn(r.list), r.read, ctx.Err()
		}
		r.tried, r.err = time.Now(), rowsError(err)
		if err == nil {
			r.list, r.read = list, r.tried
		}
	}
	return f.withOwn(r.list), r.read, r.err
}

// rowsError returns why rows cannot be read, and what to do about it.
func rowsError(err error) error {
	if err == nil {
		return nil
	}
	why, advice := cause(err)
	if timedOut(err) {
		why = "it has not answered within " + printable.Span(connectTime)
	}
	return fmt.Errorf("Redis: %s; %s", why, advice)
}

// withOwn returns rows with the one of this process, by host. Those that are gone are
// left out where their host was started again.
func (f *Fleet) withOwn(rows []Host) []Host {
	list, alive := []Host{f.own()}, map[string]bool{hostName(f.o.Host): true}
	for _, h := range rows {
		if h.Process != f.process {
			list = append(list, h)
			alive[h.Host] = alive[h.Host] || !h.Gone
		}
	}
	list[0].clean()
	list = slices.DeleteFunc(list, func(h Host) bool { return h.Gone && alive[h.Host] })
	slices.SortFunc(list, func(a, b Host) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Process, b.Process)) })
	return list
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
	now := time.Now()
	rows, _ := cmd.Val().([]any)
	for _, x := range rows[:min(len(rows), mostRows)] {
		if h, ok := parseHost(x, now); ok {
			list = append(list, h)
		}
	}
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
	h.clean()
	return h, true
}

// clean makes the texts of a row printable, and cuts them.
func (h *Host) clean() {
	h.Process, h.Host, h.Version, h.Config = printable.Clean(h.Process, 80), hostName(h.Host), printable.Clean(h.Version, 40), printable.Clean(h.Config, 80)
	h.PID = max(0, h.PID)
	h.Lost = h.Lost[:min(len(h.Lost), mostLost)]
	for i := range h.Lost {
		h.Lost[i] = printable.Clean(h.Lost[i], 80)
	}
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
