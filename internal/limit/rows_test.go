package limit

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A budget that is first asked for long after its limits were set has them, and
// one whose limits change keeps what it knows.
func TestLimitsApplyToBudgetsMadeLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, most := NewTable(nil), 2
		limits := func(k Key) Limits {
			if k.Exchange != "binance" {
				return Limits{}
			}
			return Limits{Connects: most, Per: second}
		}
		table.Configure(limits)
		a := []*Budget{table.Budget(Key{"binance", "http", "a"})}
		must(t, table, a)
		must(t, table, a)
		refused(t, table, a)
		free := []*Budget{table.Budget(Key{"kraken", "http", "a"})}
		for range 5 {
			must(t, table, free)
		}
		most = 3
		table.Configure(limits)
		must(t, table, a)
		refused(t, table, a)
		if rows := table.Rows(); len(rows) != 1 {
			t.Errorf("%v", rows)
		}
	})
}

// A member is exhausted where some budget has no room and no queue.
func TestExhausted(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limits Limits
		shut   bool
	}{
		"no room, no queue":                    {Limits{Connects: 1, Per: long}, true},
		"no room, a queue":                     {Limits{Connects: 1, Per: long, Queue: second}, false},
		"room":                                 {Limits{Connects: 2, Per: long}, false},
		"no room for another open one":         {Limits{MaxConnections: 1}, true},
		"no limits":                            {Limits{}, false},
		"used up, and only watched":            {Limits{Connects: 1, Per: long, Watch: true}, false},
		"one open, as many as may be, a queue": {Limits{MaxConnections: 1, Queue: second}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, b := one(tt.limits)
			if table.Exhausted(b) {
				t.Error("shut from the beginning")
			}
			must(t, table, b)
			if got := table.Exhausted(b); got != tt.shut {
				t.Errorf("shut: %v, want %v", got, tt.shut)
			}
		})
	}
}

// What is left, in words; a connection that moves here is no longer counted as
// another process's.
func TestRowsInWords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 300, Per: 5 * time.Minute, MaxConnections: 50})
		for range 20 {
			must(t, table, b)
		}
		k := b[0].Key()
		table.SetRemoteOpen(map[Key]int{k: 3})
		moved := table.Adopt(b)
		if diff := cmp.Diff(map[Key]int{k: 21}, table.Open()); diff != "" {
			t.Error(diff)
		}
		moved.Release()
		exit := Key{Exit: "tokyo-1"}
		configure(table, map[Key]Limits{k: b[0].limits, exit: {Connects: 3, Per: second, Watch: true}})
		var got []string
		for _, r := range table.RowsOf([]*Budget{b[0], table.Budget(exit), table.Budget(Key{Exit: "no limits"})}) {
			got = append(got, r.String())
		}
		want := []string{
			"binance via tokyo-1 (websocket): 280 of 300 per 5 m left, 22 of 50 connections open",
			"tokyo-1: 3 of 3 per 1 s left, only watched",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
