package event

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func refusedWords(n int, span time.Duration) string { return fmt.Sprintf("%d in %s", n, span) }

func TestGroupsMakeFewEventsWithTheExactCount(t *testing.T) {
	t.Parallel()
	var events []Event
	g := NewGroups(func(e Event) { events = append(events, e) })
	now := time.Unix(1e9, 0)
	// Ten refusals a second for an hour, then none.
	for second := range 3600 {
		for range 10 {
			g.Note(Event{Type: Refused, Exchange: "okx"}, "upstream_denied", now, refusedWords)
		}
		if g.Tick(now); second == 0 && len(events) != 1 {
			t.Fatalf("the first second: %+v", events)
		}
		now = now.Add(time.Second)
	}
	for range 60 {
		g.Tick(now)
		now = now.Add(time.Second)
	}
	if last := events[len(events)-1]; !last.Time.Equal(now.Add(-time.Second)) || !strings.HasSuffix(last.Text, "; none since "+now.Add(-61*time.Second).Format(time.TimeOnly)) {
		t.Errorf("the last one: %+v", last)
	}
	sum := 0
	for _, e := range events {
		sum += e.Count
	}
	if sum != 36_000 || len(events) > 8 {
		t.Errorf("%d in %d events: %+v", sum, len(events), events)
	}
	if len(g.open) != 0 {
		t.Errorf("%d groups are open", len(g.open))
	}
	g.Note(Event{Type: Refused, Exchange: "okx", Count: 7}, "upstream_denied", now, refusedWords)
	if last := events[len(events)-1]; last.Count != 7 || last.Text != "7 in 0s" {
		t.Errorf("the next one: %+v", last)
	}
}

func TestGroupsKeepApartWhatDiffers(t *testing.T) {
	t.Parallel()
	var events []Event
	g := NewGroups(func(e Event) { events = append(events, e) })
	now := time.Unix(1e9, 0)
	for range 3 {
		g.Note(Event{Type: Refused, Exchange: "okx"}, "upstream_denied", now, refusedWords)
		g.Note(Event{Type: Refused, Exchange: "okx"}, "upstream_auth", now, refusedWords)
		g.Note(Event{Type: Refused, Exchange: "okx", Upstream: "tokyo-1"}, "upstream_auth", now, refusedWords)
		g.Note(Event{Type: BudgetExhausted, Exchange: "okx"}, "upstream_auth", now, refusedWords)
	}
	if len(events) != 4 {
		t.Fatalf("%+v", events)
	}
	if g.Flush(now); len(events) != 8 {
		t.Fatalf("after a flush: %+v", events)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	t.Parallel()
	n, sum := 0, 0
	g := NewGroups(func(e Event) { n++; sum += e.Count })
	now := time.Unix(1e9, 0)
	for i := range 10 * mostGroups {
		g.Note(Event{Type: Refused, Exchange: "okx", Upstream: fmt.Sprint("up-", i)}, "x", now, refusedWords)
	}
	if g.Flush(now); n > mostGroups+3 || sum != 10*mostGroups {
		t.Fatalf("%d events for %d", n, sum)
	}
}

func TestBurstsGroupManyEndsOfOneSecond(t *testing.T) {
	t.Parallel()
	end := func(n int, exchange, upstream, by, reason string) map[End]int {
		return map[End]int{{exchange, "websocket", upstream, by, reason}: n}
	}
	for name, c := range map[string]struct {
		ends []map[End]int
		want []Burst
	}{
		"few": {[]map[End]int{end(4, "okx", "tokyo-1", "client", "eof")}, nil},
		"an upstream": {[]map[End]int{end(40, "okx", "tokyo-1", "upstream", "reset"), end(20, "binance", "tokyo-1", "upstream", "eof")}, []Burst{{
			60, "", "websocket", "tokyo-1", []string{"tokyo-1"}, []How{{"upstream", "reset", 40}, {"upstream", "eof", 20}},
		}}},
		"an exchange": {[]map[End]int{end(30, "okx", "tokyo-1", "exchange", "eof"), end(30, "okx", "tokyo-2", "exchange", "eof")}, []Burst{{
			60, "okx", "websocket", "", []string{"tokyo-1", "tokyo-2"}, []How{{"exchange", "eof", 60}},
		}}},
		"both":             {[]map[End]int{end(5, "okx", "tokyo-1", "exchange", "eof")}, []Burst{{5, "okx", "websocket", "tokyo-1", []string{"tokyo-1"}, []How{{"exchange", "eof", 5}}}}},
		"two, and a third": {[]map[End]int{end(9, "okx", "tokyo-1", "upstream", "reset"), end(6, "kraken", "direct", "exchange", "eof"), end(1, "bybit", "osaka", "client", "eof")}, []Burst{{9, "okx", "websocket", "tokyo-1", []string{"tokyo-1"}, []How{{"upstream", "reset", 9}}}, {6, "kraken", "websocket", "direct", []string{"direct"}, []How{{"exchange", "eof", 6}}}}},
	} {
		var b Bursts
		now := time.Unix(1e9, 0)
		for _, part := range c.ends {
			for e, n := range part {
				for range n {
					b.Note(e, now)
				}
			}
		}
		if got := b.Take(now.Add(burstTime / 2)); got != nil {
			t.Errorf("%s: too early: %+v", name, got)
		}
		if got := b.Take(now.Add(burstTime)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if got := b.Take(now.Add(2 * burstTime)); got != nil {
			t.Errorf("%s: once more: %+v", name, got)
		}
	}
}
