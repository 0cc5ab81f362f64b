package source

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/upstream"
)

// Options say how lists are fetched and what becomes of them. All functions are required.
type Options struct {
	Fetch   func(context.Context, *upstream.Set, *config.ListSource, Answer) (Answer, error)
	Set     func() *upstream.Set            // the upstreams in force
	Sources func() []*config.ListSource     // the lists in force
	Apply   func(Fresh) error               // puts what Run has fetched in force, or says why not; it calls Commit and Keep
	Unkept  func(*config.ListSource, error) // is called once while a list cannot be kept; a nil error: no directory is named
	Trouble func(Row)                       // is called when Problem begins, is another, or has ended; Since is when it began
}

// Lists knows the last good text of each list, and fetches them while Run runs. It is safe
// for concurrent use.
type Lists struct {
	o    Options
	wake chan struct{} // the lists in force may be others

	mu       sync.Mutex
	entries  map[key]*entry
	unkept   bool // it was said that lists are not kept
	inherits []Kept
}

// key is what a list is known by.
type key struct {
	name string
	url  config.Secret
}

func keyOf(s *config.ListSource) key { return key{s.Name, s.URL} }

// entry is what is known of one list.
type entry struct {
	good     Answer           // in force; no Text: there is none
	list     *config.ListText // its text as it was read
	scheme   config.Scheme
	max      int       // with which it was judged
	fetched  time.Time // when it came
	entered  time.Time // when this process put it in force; zero: another has
	success  time.Time // when it was last known to be the newest
	problem  string    // why there is no newer one; "" for none
	since    time.Time // of problem
	failures int       // in a row
	due      time.Time // of the next fetch; zero: not planned yet
}

// New returns what knows no list yet. It starts nothing.
func New(o Options) *Lists {
	return &Lists{o: o, wake: make(chan struct{}, 1), entries: map[key]*entry{}}
}

// entry returns the entry of a list, which begins with the text that was handed over or
// is kept on disk. l.mu is held.
func (l *Lists) entry(s *config.ListSource) *entry {
	e := l.entries[keyOf(s)]
	if e != nil {
		return e
	}
	e = &entry{}
	l.entries[keyOf(s)] = e
	var k *Kept
	if i := slices.IndexFunc(l.inherits, func(k Kept) bool { return k.Of(s) }); i >= 0 {
		k = &l.inherits[i]
	} else {
		k = load(s)
	}
	if k == nil {
		return e
	}
	if list, err := s.Read(k.Text); err == nil {
		e.good = Answer{Text: k.Text, ETag: k.ETag, LastModified: k.LastModified}
		e.list, e.fetched, e.success = list, k.Fetched, k.Fetched
		if k.Success.After(k.Fetched) {
			e.success = k.Success
		}
		e.scheme, e.max = s.Scheme, s.Max
	}
	return e
}

// Text returns the last good text of a list, nil if there is none.
func (l *Lists) Text(s *config.ListSource) *config.ListText {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entry(s).list
}

// InForce reports whether a list is one of those that Run fetches.
func (l *Lists) InForce(s *config.ListSource) bool {
	return slices.ContainsFunc(l.o.Sources(), func(have *config.ListSource) bool { return keyOf(have) == keyOf(s) })
}

// Fresh are texts that were fetched and are not in force yet.
type Fresh map[key]fetched

type fetched struct {
	Answer
	source *config.ListSource
	list   *config.ListText
	begun  time.Time // when it was asked for
	at     time.Time
}

// String returns the names of the lists.
func (f Fresh) String() string {
	var names []string
	for k := range f {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// With returns what Text does, with fresh texts in place of the older ones.
func (l *Lists) With(fresh Fresh) func(*config.ListSource) *config.ListText {
	return func(s *config.ListSource) *config.ListText {
		if f, ok := fresh[keyOf(s)]; ok {
			return f.list
		}
		return l.Text(s)
	}
}

// Problem is why a list was not fetched.
type Problem struct {
	Source *config.ListSource
	Err    error
}

// Refresh fetches some lists through the upstreams of set, all at the same time, and
// returns what is new. With quiet nothing of it is remembered, nor of lists that are not in
// force.
func (l *Lists) Refresh(ctx context.Context, set *upstream.Set, sources []*config.ListSource, quiet bool) (fresh Fresh, problems []Problem) {
	fresh = Fresh{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, s := range sources {
		all.Go(func() { // ends within fetchTimeout
			begun := time.Now()
			a, list, isNew, err := l.fetch(ctx, set, s, quiet)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				problems = append(problems, Problem{s, err})
			case isNew:
				fresh[keyOf(s)] = fetched{a, s, list, begun, time.Now()}
			}
		})
	}
	all.Wait()
	slices.SortFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Source.Name, b.Source.Name) })
	return fresh, problems
}

// fetch fetches one list and reads it. isNew reports
// whether it differs from the last good one.
func (l *Lists) fetch(ctx context.Context, set *upstream.Set, s *config.ListSource, quiet bool) (a Answer, list *config.ListText, isNew bool, err error) {
	l.mu.Lock()
	e := l.entry(s)
	known := e.good
	if e.scheme != s.Scheme || e.max != s.Max { // the text would be judged anew
		known.ETag, known.LastModified = "", ""
	}
	l.mu.Unlock()
	a, err = l.o.Fetch(ctx, set, s, known)
	if err == nil && !a.Same {
		list, err = s.Read(a.Text)
	}
	isNew = err == nil && !a.Same && (known.Text == nil || !bytes.Equal(a.Text, known.Text))
	switch {
	case quiet || ctx.Err() != nil || !l.InForce(s):
	case err != nil:
		l.Failed(s, err)
	case !isNew:
		l.succeeded(s, known, a)
	}
	return a, list, isNew, err
}

// Failed notes why the newest list of s is not in force.
func (l *Lists) Failed(s *config.ListSource, err error) {
	l.mu.Lock()
	e, now := l.entry(s), time.Now()
	if e.problem == "" {
		e.since = now
	}
	changed := e.problem != err.Error()
	e.problem, e.failures = err.Error(), e.failures+1
	e.due = now.Add(pauseAfter(s.Refresh, e.failures))
	row := e.row(s)
	l.mu.Unlock()
	if changed {
		l.o.Trouble(row)
	}
}

// succeeded notes that known is still the newest text, unless another has come meanwhile.
func (l *Lists) succeeded(s *config.ListSource, known, a Answer) {
	l.mu.Lock()
	e := l.entry(s)
	if !bytes.Equal(e.good.Text, known.Text) {
		l.mu.Unlock()
		return
	}
	if e.scheme, e.max = s.Scheme, s.Max; !a.Same {
		e.good.ETag, e.good.LastModified = a.ETag, a.LastModified
	}
	l.end(s, e, time.Now())
}

// end notes that a list is up to date. l.mu is held, and is not when it returns.
func (l *Lists) end(s *config.ListSource, e *entry, at time.Time) {
	troubled := e.problem != ""
	e.success, e.problem, e.failures = at, "", 0
	e.due = at.Add(pauseAfter(s.Refresh, 0))
	row := e.row(s)
	e.since = time.Time{}
	l.mu.Unlock()
	if troubled {
		l.o.Trouble(row)
	}
}

// Newer returns the texts but for those that were asked for before the one in force came.
func (l *Lists) Newer(fresh Fresh) Fresh {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh = maps.Clone(fresh)
	maps.DeleteFunc(fresh, func(_ key, f fetched) bool { return f.begun.Before(l.entry(f.source).entered) })
	return fresh
}

// Commit remembers texts that are in force now.
func (l *Lists) Commit(fresh Fresh) {
	for _, f := range fresh {
		l.mu.Lock()
		e := l.entry(f.source)
		e.good, e.list, e.fetched = f.Answer, f.list, f.at
		e.scheme, e.max, e.entered = f.source.Scheme, f.source.Max, time.Now()
		l.end(f.source, e, f.at)
	}
}

// Keep writes texts that are in force to disk, for the next start.
func (l *Lists) Keep(fresh Fresh) {
	for _, f := range fresh {
		l.keep(f.source, Kept{
			List: f.source.Name, From: f.source.Shown, URL: newFingerprint(f.source), Fetched: f.at, ETag: f.ETag, LastModified: f.LastModified, Text: f.Text,
		})
	}
}

// keep writes a list for the next start, and says once when it cannot.
func (l *Lists) keep(s *config.ListSource, k Kept) {
	var err error
	if s.Dir != "" {
		err = save(s, k)
	}
	failed := s.Dir == "" || err != nil
	l.mu.Lock()
	said := l.unkept
	l.unkept = failed
	l.mu.Unlock()
	if failed && !said {
		l.o.Unkept(s, err)
	}
}

// Changed is to be called when the lists in force may be others.
func (l *Lists) Changed() {
	inForce := map[key]bool{}
	for _, s := range l.o.Sources() {
		inForce[keyOf(s)] = true
	}
	l.mu.Lock()
	l.inherits = nil
	for k := range l.entries {
		if !inForce[k] {
			delete(l.entries, k)
		}
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Row is a list as status and metrics show it.
type Row struct {
	Source  *config.ListSource
	Known   bool
	Members int
	Fetched time.Time // when the text in force came
	Success time.Time // when it was last known to be the newest
	Problem string    // why there is no newer one; "" for none
	Since   time.Time // of Problem
	Next    time.Time // of the next fetch
}

func (e *entry) row(s *config.ListSource) Row {
	members := 0
	if e.list != nil {
		members = e.list.Proxies()
	}
	return Row{s, e.list != nil, members, e.fetched, e.success, e.problem, e.since, e.due}
}

// Rows returns the lists in force.
func (l *Lists) Rows() (rows []Row) {
	for _, s := range l.o.Sources() {
		l.mu.Lock()
		e := l.entry(s)
		rows = append(rows, e.row(s))
		l.mu.Unlock()
	}
	return rows
}

// maxHanded bounds what is handed to the next process.
const maxHanded = 24 << 20

// Export returns the good texts, for the next process.
func (l *Lists) Export() (list []Kept) {
	total := 0
	for _, s := range l.o.Sources() {
		l.mu.Lock()
		e := *l.entry(s)
		l.mu.Unlock()
		if e.good.Text != nil && total+len(e.good.Text) <= maxHanded {
			total += len(e.good.Text)
			list = append(list, Kept{
				List: s.Name, From: s.Shown, URL: newFingerprint(s), Fetched: e.fetched, Success: e.success, ETag: e.good.ETag, LastModified: e.good.LastModified, Text: e.good.Text,
			})
		}
	}
	return list
}

// Import takes over what another process has exported: it comes before what is kept on
// disk. The caller then builds the configuration anew.
func (l *Lists) Import(list []Kept) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inherits = list
	clear(l.entries)
}
