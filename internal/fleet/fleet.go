package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"proxyd/internal/limit"
)

const (
	callTime    = 48 * time.Millisecond // the most for a call: no dial waits for Redis for more than 50 ms
	quickTime   = 20 * time.Millisecond // Redis is used again after quickCalls calls in a row of less
	quickCalls  = 10
	probeEvery  = 250 * time.Millisecond
	awayTime    = 5 * time.Second        // at least so long without Redis after a loss
	beatEvery   = 250 * time.Millisecond // of exits that are in use; every beatAll-th for all, and of the process
	beatAll     = 4
	activeTime  = 2 * time.Second // an exit is in use for so long after each connection
	activeStep  = 3 * beatEvery
	leaseTime   = 7 * time.Second         // a process that has not called for so long has ended
	inStepTime  = 1500 * time.Millisecond // one that has not called for so long may be using its own share
	feedTime    = 7 * time.Second         // so long another Redis is fed: awayTime, the probes, and a margin
	connectTime = time.Second
	joinTime    = 500 * time.Millisecond
	connections = 3
	freshTime   = 2 * time.Second // what was heard longer ago says nothing of what is left
	restTime    = time.Minute     // an exit that is not used is left out after so long
)

// Options are what a Fleet needs. All functions are safe for concurrent use.
type Options struct {
	URL   string
	Name  string
	Hosts int    // 0: not known
	Host  string // this machine's name
	Table *limit.Table
	Row   func() Host // for the registry, once a second; may be nil
	Board Board       // for verdicts; those of nil are not called

	Called func(ok bool, took time.Duration) // after each call; it must not block
}

// State is whether Redis is used.
type State struct {
	Used    bool
	Since   time.Time
	Hosts   int    // that were last seen; 0: none was
	Between int    // hosts that a budget is divided between without Redis; 0: not known
	Why     string // it is not used: what went wrong last
	Advice  string // what to do about it
	Far     bool   // it answers, only not quickly enough
}

// Fleet is this process' part in a fleet. It is safe for concurrent use. New starts
// nothing; Run must be called once.
type Fleet struct {
	o       Options
	process string // in keys of Redis
	id      string // what the ids of its slots begin with
	client  *client
	kick    chan struct{}
	board   *board
	rows    rows

	mu       sync.Mutex
	state    State
	seen     bool // Redis has been used
	retired  bool // the next process of this host grants
	left     bool // this process is about to end, or no longer one of the fleet
	waits    bool // Redis was lost just now: whether the others still use it is not known yet
	round    int  // counts what Redis has said that this process may use by itself
	joining  bool // Redis is about to be used: what is taken from now on is not in what it was fed
	hosts    int  // processes that grant, as last seen; 0: never
	run      string
	feeding  time.Time // the registry is fed until then
	clock    clock
	exits    map[string]*exit
	entries  map[limit.Key]*entry
	waiting  []question
	imported map[limit.Key]map[string]time.Time
}

// exit is what belongs to one exit.
type exit struct {
	name    string
	entries []*entry  // in the order of their keys
	run     string    // the Redis that has counted so far, "" before the first answer
	feeding bool      // Redis is fed, and grants nothing
	fedAt   time.Time // until then
	fed     bool      // what this process holds has been passed on to it
	used    time.Time
	step    time.Duration // as last said: so long after a call Redis takes this process for one in step
	dirty   bool          // something is to be said before the next beat
	full    time.Time     // when Redis last heard all that there was to say
	hosts   int           // as said then
}

// entry is a shared budget that is in use here.
type entry struct {
	key    limit.Key
	limits limit.Limits
	exit   *exit
	open   int
	slots  map[string]time.Time // by id: when the dial ended, or will have ended at the latest
	tidy   int                  // slots is tidied up when it is larger
	ops    []op

	heard   time.Time // when the rest was
	used    int
	total   int // connections open
	force   limit.Limits
	differs bool
	fullAt  time.Time // it last had no room
	pressed bool      // when Redis was lost, more waited than this process' part

	// While this process is alone.
	alone limit.Share
}

// op is what has become of a slot.
type op struct {
	what string // "s" settled, "u" unused, "g" and the dial time: taken from this process' share
	id   string
}

// question is an Ask that waits for its answer.
type question struct {
	asks []limit.Ask
	done func([]limit.Answer)
	at   time.Time
}

// New returns a Fleet. It connects to nothing.
func New(o Options) (*Fleet, error) {
	c, err := open(o.URL)
	if err != nil {
		return nil, err
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	f := &Fleet{
		o: o, client: c, board: newBoard(), kick: make(chan struct{}, 1), id: hex.EncodeToString(b[:]),
		exits: map[string]*exit{}, entries: map[limit.Key]*entry{}, imported: map[limit.Key]map[string]time.Time{},
		state: State{Since: time.Now(), Why: "Redis has not answered yet", Advice: adviceUp},
	}
	f.process = o.Host + "-" + f.id
	f.clock.start = time.Now()
	f.clock.reset()
	return f, nil
}

// Join makes f what the table asks, and looks for Redis: for a moment at most. Run must
// follow.
func (f *Fleet) Join(ctx context.Context) {
	f.o.Table.SetRemote(f)
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	f.first(ctx)
}

// Run keeps the process one of the fleet until ctx ends.
func (f *Fleet) Run(ctx context.Context) {
	defer func() { _ = f.client.close() }() // nothing is left to lose
	var sharing sync.WaitGroup
	defer sharing.Wait()
	sharing.Go(func() { f.share(ctx) })    // ends with ctx
	sharing.Go(func() { f.keepRows(ctx) }) // ends with ctx
	for ctx.Err() == nil {
		if f.State().Used {
			f.together(ctx)
		} else {
			f.away(ctx)
		}
	}
	f.lose(errLeft, nil)
	f.o.Table.DropRemote(f)
	f.giveUp(nil)
	f.leave(ctx)
}

// State returns whether Redis is used.
func (f *Fleet) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Hosts, s.Between = f.hosts, f.shareHosts()
	return s
}

// Retire says that the next process of this host grants from now on: this one only
// counts what it has open.
func (f *Fleet) Retire(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired = on
	for _, x := range f.exits {
		x.dirty = true
	}
	f.wake()
}

func (f *Fleet) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// exitOf returns what belongs to an exit.
func (f *Fleet) exitOf(name string) *exit {
	x := f.exits[name]
	if x == nil {
		x = &exit{name: name, used: time.Now()}
		f.exits[name] = x
	}
	return x
}

// Difference is a budget whose limits differ between hosts.
type Difference struct {
	Budget limit.Key
	Here   limit.Limits
	Force  limit.Limits // the smallest, which hold for all
}

// Differences returns the budgets whose limits differ between hosts.
func (f *Fleet) Differences() (list []Difference) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.entries {
		if e.differs && e.limits.IsSet() {
			list = append(list, Difference{e.key, e.limits, e.force})
		}
	}
	slices.SortFunc(list, func(a, b Difference) int { return compareKeys(a.Budget, b.Budget) })
	return list
}

func compareKeys(a, b limit.Key) int {
	return cmp.Or(cmp.Compare(a.Exit, b.Exit), cmp.Compare(a.Exchange, b.Exchange), cmp.Compare(a.Kind, b.Kind))
}

// Slots is what the next process of this host must know of a budget.
type Slots struct {
	Exchange string           `json:"exchange,omitempty"`
	Kind     string           `json:"kind,omitempty"`
	Exit     string           `json:"exit"`
	Ends     map[string]int64 `json:"ends_us"` // by id: Unix time, in microseconds
}

// Export returns the slots of this process and of those before it.
func (f *Fleet) Export() (list []Slots) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for k, e := range f.entries {
		s := Slots{k.Exchange, k.Kind, k.Exit, map[string]int64{}}
		for id, at := range e.slots {
			if now.Sub(at) <= max(e.limits.Per, e.force.Per) {
				s.Ends[id] = at.UnixMicro() + 1
			}
		}
		list = append(list, s)
	}
	return list
}

// Import takes over slots of the process before, before Join.
func (f *Fleet) Import(list []Slots) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range list {
		ends := map[string]time.Time{}
		for id, us := range s.Ends {
			ends[id] = time.UnixMicro(us)
		}
		f.imported[limit.Key{Exchange: s.Exchange, Kind: s.Kind, Exit: s.Exit}] = ends
	}
}
