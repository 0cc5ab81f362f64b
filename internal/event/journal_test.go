package event

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func add(j *Journal, n int) {
	for i := range n {
		j.Add(Event{Severity: Info, Type: Started, Text: fmt.Sprint("number ", i)})
	}
}

func quiet() *Journal { return NewJournal(func(Event) {}) }

func TestQueryGoesOnFromNextUntilNothingIsLeft(t *testing.T) {
	t.Parallel()
	j := quiet()
	add(j, 25)
	q, seen := Query{After: ID{j.name, 0}, Limit: 10}, 0
	for {
		a := j.Query(q)
		if a.Gap != nil {
			t.Fatalf("gap: %+v", a.Gap)
		}
		if len(a.Events) == 0 {
			break
		}
		for _, e := range a.Events {
			seen++
			if want := fmt.Sprintf("%s-%d", j.name, seen); e.ID != want {
				t.Fatalf("event %s, want %s", e.ID, want)
			}
		}
		q.After, _ = ParseID(a.Next)
	}
	if seen != 25 {
		t.Fatalf("%d events, want 25", seen)
	}
	if a := j.Query(Query{Limit: 3}); len(a.Events) != 3 || a.Events[2].Text != "number 24" {
		t.Fatalf("the latest three: %+v", a.Events)
	}
}

func TestQueryFilters(t *testing.T) {
	t.Parallel()
	j := quiet()
	at := time.Now().Add(-time.Hour)
	j.Add(Event{Time: at, Severity: Info, Type: UpstreamBack, Upstream: "tokyo-1"})
	j.Add(Event{Severity: Warn, Type: Refused, Exchange: "okx", Kind: "http", Upstream: "tokyo-1"})
	j.Add(Event{Severity: Error, Type: ExchangeLost, Exchange: "okx", Kind: "websocket", Upstreams: []string{"tokyo-1", "tokyo-2"}})
	for name, c := range map[string]struct {
		q    Query
		want int
	}{
		"exchange":                 {Query{Exchange: "okx"}, 2},
		"kind":                     {Query{Exchange: "okx", Kind: "http"}, 1},
		"upstream":                 {Query{Upstream: "tokyo-1"}, 3},
		"one of several upstreams": {Query{Upstream: "tokyo-2"}, 1},
		"severity":                 {Query{Severity: Warn}, 2},
		"type":                     {Query{Types: []Type{ExchangeLost, UpstreamBack}}, 2},
		"since":                    {Query{Since: at.Add(time.Minute)}, 2},
		"all":                      {Query{}, 3},
	} {
		if got := len(j.Query(c.q).Events); got != c.want {
			t.Errorf("%s: %d events, want %d", name, got, c.want)
		}
	}
}

func TestAnswerNamesTheGapBeforeIt(t *testing.T) {
	t.Parallel()
	j := quiet()
	add(j, maxEntries+500)
	a := j.Query(Query{After: ID{j.name, 100}})
	if a.Gap == nil || a.Gap.Text != "400 events are no longer kept" || len(a.Events) != maxEntries || !a.RemembersSince.Equal(a.Events[0].Time) {
		t.Fatalf("fallen out: %+v, %d events", a.Gap, len(a.Events))
	}
	if a := j.Query(Query{After: ID{j.name, 500}}); a.Gap != nil {
		t.Fatalf("nothing is missing: %+v", a.Gap)
	}
	if a := j.Query(Query{After: ID{"00000000", 7}}); a.Gap == nil || !strings.Contains(a.Gap.Text, "started again") || len(a.Events) != maxEntries {
		t.Fatalf("another journal: %+v, %d events", a.Gap, len(a.Events))
	}
	if a := j.Query(Query{After: ID{j.name, maxEntries + 501}}); a.Gap == nil {
		t.Fatal("an event that has not happened")
	}
	since := j.Query(Query{}).RemembersSince
	if a := j.Query(Query{Since: since.Add(-time.Hour)}); a.Gap == nil || !strings.Contains(a.Gap.Text, "no longer kept") || len(a.Events) != maxEntries {
		t.Fatalf("from a time whose events have fallen out: %+v, %d events", a.Gap, len(a.Events))
	}
	next := quiet()
	if err := next.Import(j.HandOver()); err != nil || next.Query(Query{Since: since.Add(-time.Hour)}).Gap == nil {
		t.Fatalf("the next process does not know that they have: %v", err)
	}
	if a := j.Query(Query{Since: since}); a.Gap != nil {
		t.Fatalf("from a time that is kept: %+v", a.Gap)
	}
	few := quiet()
	add(few, 3)
	if a := few.Query(Query{Since: since.Add(-time.Hour)}); a.Gap != nil {
		t.Fatalf("nothing was ever dropped: %+v", a.Gap)
	}
}

func TestImportedJournalKeepsItsIDsAndGoesOn(t *testing.T) {
	t.Parallel()
	before, after := quiet(), quiet()
	add(before, 3)
	after.Add(Event{Severity: Warn, Type: Certificate, Text: "of the new process"})
	if err := errors.Join(after.Import(before.HandOver()), after.Import(nil)); err != nil {
		t.Fatal(err)
	}
	if err := after.Import([]byte("not a journal")); err == nil {
		t.Error("what is no journal is taken over")
	}
	after.Adopt(Event{Severity: Info, Type: Upgraded, Text: "of the old process, later"})
	a := after.Query(Query{After: ID{before.name, 2}})
	if a.Gap != nil || len(a.Events) != 3 || a.Events[0].Text != "number 2" || a.Events[1].Text != "of the new process" || a.Next != before.name+"-5" {
		t.Fatalf("%+v", a)
	}
	if !a.RemembersSince.Equal(before.began) {
		t.Fatalf("remembers since %s, want %s", a.RemembersSince, before.began)
	}
}

// A flood of events costs no more memory than a full journal, and holds up no one
// who adds.
func TestFloodStaysBounded(t *testing.T) {
	j := quiet()
	f, _ := j.Follow(Query{})
	defer f.Close()
	long := strings.Repeat("x", 3000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 25_000 {
				j.Add(Event{Severity: Info, Type: Refused, Text: fmt.Sprint(i, long), Hint: long})
			}
		})
	}
	wg.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > maxBytes*3/2 {
		t.Errorf("%d KiB are held", grown>>10)
	}
	if a := j.Query(Query{}); a.Next != j.name+"-100000" || j.bytes > maxBytes || len(a.Events) < 1000 {
		t.Errorf("next %s, %d bytes, %d events", a.Next, j.bytes, len(a.Events))
	}
	if _, _, err := f.Next(); !errors.Is(err, ErrBehind) {
		t.Errorf("a follower that did not read: %v", err)
	}
}

func TestFollowerSeesEachEventOnce(t *testing.T) {
	t.Parallel()
	j := quiet()
	add(j, 300)
	f, gap := j.Follow(Query{After: ID{j.name, 0}})
	defer f.Close()
	if gap != nil {
		t.Fatal(gap)
	}
	add(j, 100) // the backlog is no delay of the follower's
	var seen uint64
	for seen < 400 {
		<-f.News()
		events, upTo, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if seen++; e.ID != j.id(seen) {
				t.Fatalf("event %s, want %s", e.ID, j.id(seen))
			}
		}
		if upTo != j.id(seen) {
			t.Fatalf("up to %s, want %s", upTo, j.id(seen))
		}
	}
	add(j, maxBehind)
	if _, _, err := f.Next(); err != nil {
		t.Fatal(err)
	}
}

func TestEventsDuringAHandOverAreKeptApart(t *testing.T) {
	t.Parallel()
	var ids []string
	j := NewJournal(func(e Event) { ids = append(ids, e.ID) })
	add(j, 1)
	state, next := j.HandOver(), quiet()
	if err := next.Import(state); err != nil || next.last != 1 {
		t.Fatal(err, next.last)
	}
	add(j, 2)
	if a := j.Query(Query{}); len(a.Events) != 1 || a.Next != j.name+"-1" {
		t.Fatalf("%+v", a)
	}
	if held := j.Held(); len(held) != 2 || len(j.Held()) != 0 {
		t.Fatalf("held: %+v", held)
	}
	add(j, 1)
	j.Resume()
	add(j, 1)
	if a := j.Query(Query{}); len(a.Events) != 3 || a.Next != j.name+"-3" {
		t.Fatalf("after a failure: %+v", a)
	}
	if got := strings.Join(ids, " "); got != fmt.Sprintf("%s-1    %s-3", j.name, j.name) {
		t.Fatalf("logged: %s", got)
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	if id, ok := ParseID("0a1b2c3d-17"); !ok || id != (ID{"0a1b2c3d", 17}) || id.String() != "0a1b2c3d-17" {
		t.Errorf("%v %v", id, ok)
	}
	for _, text := range []string{"", "1h", "0a1b2c3d", "0a1b2c3d-", "0a1b2c3d--1", "2026-11-30T10:00:00Z", "xxxxxxxx-1", "0a1b2c3d-99999999999999999999"} {
		if id, ok := ParseID(text); ok {
			t.Errorf("%q: %v", text, id)
		}
	}
}

// The bounds of a journal are those that the documents name.
func TestBoundsOfTheJournalAreDocumented(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"operations.md": fmt.Sprintf("the last %d,000 events, at most %d MiB of them", maxEntries/1000, maxBytes>>20),
		"api.md":        fmt.Sprintf("more than %d events behind", maxBehind),
	} {
		doc, err := os.ReadFile("../../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(doc), want) {
			t.Errorf("docs/%s does not say %q", file, want)
		}
	}
}
