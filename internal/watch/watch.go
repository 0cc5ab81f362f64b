package watch

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Options say what to watch and whom to tell. Files and Changed are required.
type Options struct {
	// Files are the files to watch, read by somebody else; "" is left out, and none
	// at all is fine. It is asked by New, and by Run after each change and each poll.
	Files func() []string
	// Changed is called by Run, one call at a time, after a burst has settled, if
	// since the last call a file's content changed, or whether it is there, or whether
	// it can be read. What changes while it runs is told by a call after it.
	Changed func()
	// Broken is told, by Run, why there are no events (nil: nobody is told). The files
	// are then polled twice a second, and the events tried again; it is told once
	// until they work again.
	Broken func(error)
	// Scarce is called by Run when a file cannot be compared because no descriptor
	// is free (nil: it is not). That is no change: it is tried again twice a second.
	Scarce func()

	Settle time.Duration // how long it has to be quiet, 0: 100 ms; a burst that goes on is told after ten times that
	Poll   time.Duration // how often content is compared without an event, 0: 10 s
}

const (
	defaultSettle = 100 * time.Millisecond
	defaultPoll   = 10 * time.Second
	pollAlone     = 500 * time.Millisecond // without events

	// How much older than the moment of the change a file's time may be: kernels
	// stamp with the time of their last tick.
	tick = 10 * time.Millisecond
)

// A Watcher watches files while Run runs.
type Watcher struct {
	o       Options
	stirred chan struct{} // something happened to a file, or to the source of events
	again   chan struct{} // Refresh was called

	mu   sync.Mutex
	read time.Time // when the files began to be read, the last time that is known

	// What follows is New's and then Run's alone.
	files  []string
	told   map[string]fingerprint // as of the last call of Changed
	source *source                // nil while there is nothing to watch or no events
	alone  bool                   // no events, or not of all
	scarce bool                   // some file was not compared for want of a descriptor
	looked time.Time              // when all files were last compared
	first  time.Time              // when the burst under way began; zero: calm
	due    time.Time              // when it will have settled
	seen   map[string]fingerprint // as last compared in a burst that no event tells of, else nil
	buf    []byte
}

// New remembers what the files hold now: call it before they are read, so that
// no change between reading and Run is missed. It starts nothing.
func New(o Options) *Watcher {
	if o.Settle <= 0 {
		o.Settle = defaultSettle
	}
	if o.Poll <= 0 {
		o.Poll = defaultPoll
	}
	w := &Watcher{o: o, read: time.Now(), stirred: make(chan struct{}, 1), again: make(chan struct{}, 1), buf: make([]byte, 32<<10)}
	w.files = w.listFiles()
	w.told = map[string]fingerprint{}
	for _, f := range w.files {
		w.told[f] = fingerprintOf(f, w.buf)
	}
	return w
}

// Refresh says that the files were read by another way than Changed (a signal, a
// request), and when that began: Files may now name others. A file that comes
// anew is taken as known, unless it changed since then.
func (w *Watcher) Refresh(began time.Time) {
	w.reading(began)
	select {
	case w.again <- struct{}{}:
	default: // it will look anyway
	}
}

// Run watches until ctx ends, and returns its error. It does not end while
// Changed runs.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.closeSource()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.stirred:
			w.cover() // directories may have come and gone
			w.stir()
			w.seen = nil // events will tell how long it goes on
		case <-w.again:
			w.compare()
		case <-timer.C:
			if w.first.IsZero() || time.Now().Before(w.due) {
				w.compare()
			} else {
				w.settled()
			}
		}
		timer.Reset(time.Until(w.next()))
	}
}

// next is when there is something to do without an event.
func (w *Watcher) next() time.Time {
	poll := w.o.Poll
	if w.alone || w.scarce {
		poll = min(poll, pollAlone)
	}
	at := w.looked.Add(poll)
	if !w.first.IsZero() && w.due.Before(at) {
		at = w.due
	}
	return at
}

// stir begins a burst or lengthens it.
func (w *Watcher) stir() {
	now := time.Now()
	if w.first.IsZero() {
		w.first = now
	}
	w.due = now.Add(w.o.Settle)
	if last := w.first.Add(10 * w.o.Settle); last.Before(w.due) {
		w.due = last
	}
}

// compare begins a burst if the files hold something else than was told.
func (w *Watcher) compare() {
	now, differs := w.look()
	switch {
	case differs && w.first.IsZero():
		w.seen = now
		w.stir()
	case !differs && w.first.IsZero():
		w.told = now
	}
}

// settled ends a burst, and tells of it if it has changed anything.
func (w *Watcher) settled() {
	now, differs := w.look()
	if w.seen != nil && !maps.Equal(w.seen, now) && time.Since(w.first) < 10*w.o.Settle {
		w.seen = now // no event tells that it is being written
		w.stir()
		return
	}
	w.first, w.seen = time.Time{}, nil
	w.told = now
	if differs {
		w.reading(time.Now())
		w.o.Changed()
		w.compare()
	}
}

// look asks for the files anew, watches them, and compares them with what was
// told. To watch comes first: what changes after the look makes an event.
func (w *Watcher) look() (now map[string]fingerprint, differs bool) {
	w.files = w.listFiles()
	w.cover()
	w.looked = time.Now()
	w.mu.Lock()
	read := w.read
	w.mu.Unlock()
	now = make(map[string]fingerprint, len(w.files))
	w.scarce = false
	for _, f := range w.files {
		told, known := w.told[f]
		holds := fingerprintOf(f, w.buf)
		if holds.state == noDescriptor {
			w.scarce = true
			if holds = told; !known {
				continue
			}
		}
		now[f] = holds
		if known {
			differs = differs || told != now[f]
		} else {
			differs = differs || changedSince(f, read.Add(-tick))
		}
	}
	if w.scarce && w.o.Scarce != nil {
		w.o.Scarce()
	}
	return now, differs
}

// listFiles gives the files as absolute paths, each once.
func (w *Watcher) listFiles() []string {
	var files []string
	for _, f := range w.o.Files() {
		if f == "" {
			continue
		}
		if abs, err := filepath.Abs(f); err == nil {
			f = abs
		}
		if !slices.Contains(files, f) {
			files = append(files, f)
		}
	}
	return files
}

// cover has events made for all that the files' paths lead through.
func (w *Watcher) cover() {
	if len(w.files) == 0 {
		w.closeSource()
		w.alone = false
		return
	}
	err := w.events()
	if err != nil && !w.alone && w.o.Broken != nil {
		w.o.Broken(err)
	}
	w.alone = err != nil
}

// events opens the source of events where there is none. One that has failed is
// closed, and the next look opens another: not at once, it might fail at once again.
func (w *Watcher) events() error {
	if w.source != nil {
		if err := w.source.failure(); err != nil {
			w.closeSource()
			return err
		}
	} else {
		s, err := openSource(w.stirred)
		if err != nil {
			return err
		}
		w.source = s
	}
	return w.source.arm(w.files)
}

func (w *Watcher) closeSource() {
	if w.source != nil {
		w.source.close()
		w.source = nil
	}
}

func (w *Watcher) reading(began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = began
}
