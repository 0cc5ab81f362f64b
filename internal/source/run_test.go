package source

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/upstream"
)

// world is a provider of one list, and what becomes of it.
type world struct {
	mu       sync.Mutex
	answer   Answer
	err      error
	refused  error
	asked    []time.Time
	applied  []string
	troubles []string
	unkept   int
}

func (w *world) lists(s *config.ListSource) *Lists {
	var l *Lists
	l = New(Options{
		Fetch: func(_ context.Context, _ *upstream.Set, _ *config.ListSource, known Answer) (Answer, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asked = append(w.asked, time.Now())
			if w.err == nil && known.ETag == w.answer.ETag && known.Text != nil {
				return Answer{Same: true}, nil
			}
			return w.answer, w.err
		},
		Set: func() *upstream.Set { return nil }, Sources: func() []*config.ListSource { return []*config.ListSource{s} },
		Apply: func(f Fresh) error {
			w.mu.Lock()
			err := w.refused
			if err == nil {
				w.applied = append(w.applied, string(l.With(f)(s).Text))
			}
			w.mu.Unlock()
			if err == nil {
				l.Commit(f)
				l.Keep(f)
			}
			return err
		},
		Unkept: func(*config.ListSource, error) { w.unkept++ },
		Trouble: func(r Row) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.troubles = append(w.troubles, r.Problem)
		},
	})
	return l
}

// seen returns when the provider was asked, what was applied, and the troubles.
func (w *world) seen() (asked []time.Time, applied, troubles []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked), slices.Clone(w.applied), slices.Clone(w.troubles)
}

func (w *world) set(a Answer, err, refused error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer, w.err, w.refused = a, err, refused
}

var plainSource = config.ListSource{Name: "asia", URL: config.NewSecret("https://lists.example/x"), Shown: "https://lists.example/***", Refresh: 5 * time.Minute, Max: 10, Scheme: "http"}

// A list is fetched at once where none is known, then each refresh time less up to a fifth;
// after failures sooner, and then ever later.
func TestListsAreFetchedWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: Answer{Text: []byte("192.0.2.1:1\n"), ETag: "1"}}
		ctx, cancel := context.WithCancel(t.Context())
		l := w.lists(&plainSource)
		done := make(chan struct{})
		go func() { l.Run(ctx); close(done) }() // ends with cancel
		time.Sleep(time.Hour)
		synctest.Wait()
		asked, applied, _ := w.seen()
		if len(applied) != 1 || len(asked) < 12 || len(asked) > 16 {
			t.Errorf("applied %q, asked %d times", applied, len(asked))
		}
		for i, at := range asked[1:] {
			if d := at.Sub(asked[i]); d < 4*time.Minute || d > 5*time.Minute {
				t.Errorf("asked again after %v", d)
			}
		}
		if row := l.Rows()[0]; row.Members != 1 || time.Since(row.Success) > 5*time.Minute || time.Since(row.Fetched) < 59*time.Minute {
			t.Errorf("%+v", row)
		}
		w.set(Answer{}, errors.New("it is down"), nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		all, _, troubles := w.seen()
		pauses := all[len(asked):]
		if len(pauses) < 15 || len(pauses) > 40 || len(troubles) != 1 {
			t.Errorf("asked %d times in an hour of failures; troubles %q", len(pauses), troubles)
		}
		if d := pauses[1].Sub(pauses[0]); d > firstPause {
			t.Errorf("the first pause is %v", d)
		}
		w.set(Answer{Text: []byte("192.0.2.2:1\n"), ETag: "2"}, nil, errors.New("it has shrunk"))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if string(l.Text(&plainSource).Text) != "192.0.2.1:1\n" {
			t.Error("a list that was not applied is known as good")
		}
		w.set(Answer{Text: []byte("192.0.2.2:1\n"), ETag: "2"}, nil, nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		cancel()
		<-done
		_, _, troubles = w.seen()
		if string(l.Text(&plainSource).Text) != "192.0.2.2:1\n" || len(troubles) != 3 || troubles[2] != "" || w.unkept != 1 {
			t.Errorf("in force %q, troubles %q, unkept %d times", l.Text(&plainSource).Text, troubles, w.unkept)
		}
	})
}

// A text that was asked for before a reload put another in force does not replace it.
func TestOlderTextDoesNotReplaceANewer(t *testing.T) {
	t.Parallel()
	w := &world{answer: Answer{Text: []byte("192.0.2.1:1\n")}}
	l := w.lists(&plainSource)
	all := []*config.ListSource{&plainSource}
	older, _ := l.Refresh(t.Context(), nil, all, false)
	w.set(Answer{Text: []byte("192.0.2.2:1\n")}, nil, nil)
	newer, _ := l.Refresh(t.Context(), nil, all, false)
	if len(l.Newer(older)) != 1 || len(l.Newer(newer)) != 1 {
		t.Error("a text is dropped although none is in force")
	}
	l.Commit(newer)
	if len(l.Newer(older)) != 0 {
		t.Error("the older text would replace the newer")
	}
	w.set(Answer{Text: []byte("192.0.2.3:1\n"), ETag: "3"}, nil, nil)
	if next, _ := l.Refresh(t.Context(), nil, all, false); len(l.Newer(next)) != 1 {
		t.Error("the next text is dropped")
	}
}

// Hosts that start together with a kept list ask at different times.
func TestHostsDoNotAskAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := plainSource
	s.Dir = t.TempDir()
	if err := save(&s, Kept{List: s.Name, From: s.Shown, URL: newFingerprint(&s), Fetched: time.Now(), Text: []byte("192.0.2.1:1\n")}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		seconds := map[int64]int{}
		for range 100 {
			l := (&world{}).lists(&s)
			due, next := l.plan(time.Now())
			if len(due) > 0 {
				t.Fatal("a list that is known is fetched at once")
			}
			seconds[int64(time.Until(next)/(5*time.Second))]++
		}
		for at, n := range seconds {
			if n > 30 || at >= 12 {
				t.Errorf("%d of 100 hosts ask within the same 5 s, from second %d on", n, 5*at)
			}
		}
	})
}
