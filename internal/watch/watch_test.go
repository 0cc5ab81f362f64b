package watch

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "16") // they wait more than they work
	goleak.VerifyTestMain(m)
}

// A reader does what a daemon does: it reads the file at each call of Changed.
type reader struct {
	*Watcher
	dir, file string
	also      atomic.Pointer[[]string] // the files that the first one names
	asked     atomic.Int64
	off       atomic.Bool  // there is nothing to watch
	during    func()       // run in each call of Changed, after reading
	guise     func(func()) // as whom to watch, nil: as we are
	changed   chan struct{}

	mu   sync.Mutex
	read []string
	at   time.Time
}

// reads starts watching dir/proxyd.yaml, and waits until it is watched.
func reads(t *testing.T, dir string, o Options) *reader {
	t.Helper()
	r := &reader{dir: dir, file: filepath.Join(dir, "proxyd.yaml"), changed: make(chan struct{}, 1000)}
	r.start(t, o)
	return r
}

// start runs without a poll of all content, unless o has one.
func (r *reader) start(t *testing.T, o Options) {
	t.Helper()
	if o.Poll == 0 {
		o.Poll = time.Hour
	}
	o.Files = func() []string {
		defer r.asked.Add(1)
		if r.off.Load() {
			return nil
		}
		files := []string{r.file, ""}
		if also := r.also.Load(); also != nil {
			files = append(files, *also...)
		}
		return files
	}
	o.Changed = func() {
		r.mu.Lock()
		r.read, r.at = append(r.read, content(r.file)), time.Now()
		r.mu.Unlock()
		r.mu.Lock()
		during := r.during
		r.mu.Unlock()
		if during != nil {
			during()
		}
		r.changed <- struct{}{}
	}
	if o.Scarce == nil {
		o.Scarce = func() {}
	}
	if r.guise == nil {
		r.guise = func(f func()) { f() }
	}
	r.guise(func() { r.Watcher = New(o) })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go r.guise(func() { ended <- r.Run(ctx) }) // ends with stop; the cleanup waits
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: got %v, want %v", err, context.Canceled)
		}
	})
	r.looks(t, 2) // New's, and Run's first, which may be running
	r.look(t)
}

// looks waits until Files was asked so often.
func (r *reader) looks(t *testing.T, n int64) {
	t.Helper()
	until(t, fmt.Sprintf("Files asked %d times", n), func() bool { return r.asked.Load() >= n })
}

// look has the watcher look, after all that it was doing.
func (r *reader) look(t *testing.T) {
	t.Helper()
	n := r.asked.Load()
	r.Refresh(time.Now())
	r.looks(t, n+1)
}

// want waits for as many calls of Changed as texts, and holds what was read in
// them to the texts. It gives the time of the last.
func (r *reader) want(t *testing.T, texts ...string) time.Time {
	t.Helper()
	until(t, fmt.Sprintf("%d calls", len(texts)), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.read) >= len(texts)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.read, texts) {
		t.Fatalf("read %q, want %q", r.read, texts)
	}
	return r.at
}

func (r *reader) onChanged(during func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.during = during
}

func until(t *testing.T, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !true(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 5 s for: %s", what)
		}
	}
}

// content is what a file holds, or why it holds nothing.
func content(file string) string {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "missing"
	case err != nil:
		return "unreadable"
	case !info.Mode().IsRegular():
		return "no file"
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "unreadable"
	}
	return string(text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	must(t, os.WriteFile(file, []byte(text), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
