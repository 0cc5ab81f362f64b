package daemon

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"proxyd/internal/event"
)

// What is wrong has the time of its beginning for as long as it lasts, one event when
// it begins and one when it ends; a worse state is another one.
func TestAlarmsBeginOnceAndEndOnce(t *testing.T) {
	t.Parallel()
	var events []string
	a := alarms{add: func(e event.Event) { events = append(events, fmt.Sprintf("%s %s: %s", e.Severity, e.Type, e.Text)) }}
	start := time.Date(2026, 11, 30, 10, 17, 0, 0, time.UTC)
	near := finding{key: "max", typ: event.TunnelLimit, severity: event.Warn, text: "near", hint: "raise it", over: "room again", linger: 3 * time.Second}
	full := near
	full.severity, full.text = event.Error, "full"
	other := finding{key: "other", severity: event.Warn, text: "other since ever", dated: true, since: start.Add(-time.Hour)}
	slow := finding{key: "slow", typ: event.LogLost, severity: event.Warn, text: "slow", over: "slow no more", after: 2 * time.Second}
	for _, step := range []struct {
		second int
		found  []finding
		want   []string
	}{
		{0, nil, nil},
		{1, []finding{other, near, slow}, []string{"other since ever", "near, since 10:17:01; raise it"}},
		{2, []finding{other, near}, []string{"other since ever", "near, since 10:17:01; raise it"}}, // slow was too short
		{3, []finding{other, full, slow}, []string{"full, since 10:17:03; raise it", "other since ever"}},
		{4, []finding{other, near, slow}, []string{"full, since 10:17:03; raise it", "other since ever"}}, // lingers
		{5, []finding{full, slow}, []string{"full, since 10:17:03; raise it", "slow, since 10:17:03"}},
		{9, []finding{near, slow}, []string{"near, since 10:17:09; raise it", "slow, since 10:17:03"}},
		{10, []finding{near}, []string{"near, since 10:17:09; raise it"}},
		{11, nil, []string{"near, since 10:17:09; raise it"}},
		{13, nil, nil},
		{86400, []finding{{key: "old", severity: event.Warn, text: "old", since: start}}, []string{"old, since 2026-11-30 10:17:00"}},
	} {
		if got := a.update(start.Add(time.Duration(step.second)*time.Second), step.found); !slices.Equal(got, step.want) {
			t.Errorf("second %d: got %q, want %q", step.second, got, step.want)
		}
	}
	want := []string{
		"warn max_tunnels: near", "error max_tunnels: full", "warn log_lost: slow", "info max_tunnels: room again, after 6 s",
		"info log_lost: slow no more, after 7 s", "info max_tunnels: room again, after 4 s",
	}
	if !slices.Equal(events, want) {
		t.Errorf("events\n%q\nwant\n%q", events, want)
	}
}

// What goes on in the next process has not begun there, and ends there.
func TestAlarmsGoAlongWithAnUpgrade(t *testing.T) {
	t.Parallel()
	var events []string
	add := func(e event.Event) { events = append(events, string(e.Severity)+" "+e.Text) }
	old, next := alarms{add: add}, alarms{add: add}
	start := time.Date(2026, 11, 30, 10, 17, 0, 0, time.UTC)
	full := finding{key: "max", typ: event.TunnelLimit, severity: event.Error, text: "full", over: "room again"}
	other := finding{key: "other", typ: event.Descriptors, severity: event.Warn, text: "few", over: "many"}
	old.update(start, []finding{full, other, {key: "later", after: time.Hour}})
	text, err := json.Marshal(old.export())
	if err != nil {
		t.Fatal(err)
	}
	var came []alarmMemory
	if err := json.Unmarshal(text, &came); err != nil || len(came) != 2 {
		t.Fatalf("%v, %s", err, text)
	}
	next.restore(came, start.Add(time.Second))
	for _, step := range []struct {
		second int
		want   []string
	}{{2, []string{"full, since 10:17:00", "few, since 10:17:00"}}, {9, []string{"full, since 10:17:00"}}} {
		if got := next.update(start.Add(time.Duration(step.second)*time.Second), []finding{full}); !slices.Equal(got, step.want) {
			t.Errorf("second %d: got %q, want %q", step.second, got, step.want)
		}
	}
	if want := []string{"error full", "warn few", "info many, after 9 s"}; !slices.Equal(events, want) {
		t.Errorf("events %q, want %q", events, want)
	}
}

func TestLastMinuteCountsSixtySeconds(t *testing.T) {
	t.Parallel()
	var l lastMinute
	start := time.Unix(1_000_000, 0)
	if n, _ := l.count(start); n != 0 {
		t.Errorf("%d before the first", n)
	}
	for s := range 100 {
		l.add(start.Add(time.Duration(s) * time.Second))
		l.add(start.Add(time.Duration(s) * time.Second))
	}
	for after, want := range map[int]int{99: 120, 100: 118, 158: 2, 159: 0, 1000: 0} {
		if n, last := l.count(start.Add(time.Duration(after) * time.Second)); n != want || !last.Equal(start.Add(99*time.Second)) {
			t.Errorf("after %d s: %d, last at %v, want %d", after, n, last, want)
		}
	}
}
