package fleet

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Host is a process as the others see it: a row of the registry.
type Host struct {
	Process  string    `json:"process"` // unique: the machine's name and a random part
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Version  string    `json:"version"`
	Config   string    `json:"config"`         // hash of the configuration in force
	Lost     []string  `json:"lost,omitempty"` // exchanges, as line 1 of status names them
	Retired  bool      `json:"retired,omitempty"`
	LastSeen time.Time `json:"last_seen"` // by the clock of that host
}

// registryKeys are the keys of the registry: a hash, processes by lease, rows, and those
// that are retired by lease.
func (f *Fleet) registryKeys() []string {
	prefix := "proxyd:" + f.o.Name + ":{fleet}:"
	return []string{prefix + "fleet", prefix + "processes", prefix + "rows", prefix + "retired"}
}

// beat adds this process' sign of life to a pipeline; with end its last.
func (f *Fleet) beat(eval evaluate, end bool) *redis.Cmd {
	row := Host{}
	if f.o.Row != nil {
		row = f.o.Row()
	}
	f.mu.Lock()
	row.Process, row.Host, row.Retired, row.LastSeen = f.process, f.o.Host, f.retired, time.Now()
	f.mu.Unlock()
	text, _ := json.Marshal(row) // plain fields cannot fail
	flag := map[bool]string{true: "1"}
	return eval(beatScript, f.registryKeys(), []any{f.process, leaseTime.Microseconds(), feedTime.Microseconds(), flag[row.Retired], string(text), flag[end]})
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

// Hosts returns the rows of all processes that Redis has heard of lately, by name.
func (f *Fleet) Hosts(ctx context.Context) ([]Host, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	p := f.client.pipeline()
	rows := p.HVals(ctx, f.registryKeys()[2])
	if _, err := p.Exec(ctx); err != nil {
		return nil, err
	}
	var list []Host
	for _, text := range rows.Val() {
		var h Host
		if json.Unmarshal([]byte(text), &h) == nil {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b Host) int { return strings.Compare(a.Process, b.Process) })
	return list, nil
}
