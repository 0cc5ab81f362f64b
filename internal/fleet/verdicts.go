package fleet

import (
	"context"
	_ "embed"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed verdicts.lua
var verdictsText string

var verdictsScript = newScript(verdictsText)

// The words of verdicts, as package upstream has them; and of what is no verdict.
const (
	withdrawn = "ok"      // of a verdict: it holds no longer
	Ejected   = "ejected" // of an exit, without an exchange: a host cannot get through it
)

// Verdict is what an exchange has answered to a process about an exit, for all hosts.
type Verdict struct {
	Exit, Exchange, Kind string
	Word                 string // geoblocked, rate_limited or blocked; Ejected, without an exchange
	Until                time.Time
	Text                 string
	Host                 string // that has found it; set by the fleet
}

// Board are the functions through which verdicts are shared. They must be safe for
// concurrent use, and must not block.
type Board struct {
	Own    func() []Verdict // what this process itself has found and still holds
	Others func([]Verdict)  // all that others have found and still holds: after each change, and once a second
	Hint   func(Verdict)    // another host has ejected an exit
}

const (
	lookEvery    = 400 * time.Millisecond // so long a verdict takes to come to all, at most
	lookTime     = time.Second
	longestHold  = 72 * time.Hour // no ban is longer
	keepTime     = time.Minute    // what is withdrawn is kept: a process that has not looked for so long looks at all
	disputeTime  = 5 * time.Minute
	confirmAfter = 150 * time.Second // a verdict is said again when it holds so much longer
	mostPairs    = 5000
	mostAnswers  = 500
	mostPosts    = 1000
	nameLength   = 255
	textLength   = 200
)

// pair is what a verdict is about.
type pair struct{ exit, exchange, kind string }

// key returns the name of p in Redis.
func (p pair) key() string { return p.exit + "|" + p.exchange + "|" + p.kind }

// posted is a verdict as Redis has it.
type posted struct {
	Verdict
	process, version string
}

// board is what this process knows of the verdicts of all.
type board struct {
	kick chan struct{}

	mu      sync.Mutex
	id      string // of the board in Redis; share's goroutine alone uses it
	version string // seen so far
	seen    time.Time
	known   map[pair]posted
	posts   map[pair]post     // that wait
	dispute map[pair]disputed // own ones that another host has withdrawn
}

// post is a verdict that is to be said, or withdrawn.
type post struct {
	Verdict
	version string // to be withdrawn
}

type disputed struct {
	word  string
	until time.Time
}

func newBoard() *board {
	return &board{kick: make(chan struct{}, 1), version: "0", known: map[pair]posted{}, posts: map[pair]post{}, dispute: map[pair]disputed{}}
}

// Found says what an exchange has answered to this process: a verdict or, with the word
// "ok", that it serves the exit. What it has answered to one host counts for all. A
// verdict that comes from another host must not be said here.
func (f *Fleet) Found(v Verdict) {
	b, now := f.board, time.Now()
	p := pair{v.Exit, v.Exchange, v.Kind}
	b.mu.Lock()
	defer b.mu.Unlock()
	k, known := b.known[p]
	if v.Word == withdrawn {
		delete(b.posts, p)
		delete(b.dispute, p)
		if !known {
			return
		}
		delete(b.known, p)
		b.add(p, post{v, k.version})
		return
	}
	if d := b.dispute[p]; d.word == v.Word && now.Before(d.until) || known && k.Word == v.Word && k.Until.Add(slack(v.Word)).After(v.Until) {
		return
	}
	b.add(p, post{Verdict: v})
}

func (b *board) add(p pair, x post) {
	if len(b.posts) >= mostPosts {
		return
	}
	b.posts[p] = x
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// slack returns how much longer than the last one a verdict must hold to be said again.
func slack(word string) time.Duration {
	switch word {
	case "rate_limited":
		return time.Second
	case Ejected:
		return longestHold // once, while it holds
	}
	return confirmAfter
}

// share says and hears verdicts until ctx ends, whether Redis decides on budgets or not.
func (f *Fleet) share(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	defer f.hideRow(ctx)
	last := time.Time{}
	for {
		due := time.Since(last) >= time.Second
		changed, err := f.look(ctx, due)
		if ctx.Err() != nil {
			return
		}
		if now := time.Now(); changed || due {
			f.offer(now)
			last = now
		}
		if err != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(lookTime):
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-f.board.kick:
		case <-ticker.C:
		}
	}
}

// hideRow removes this process' row, if Redis answers at once.
func (f *Fleet) hideRow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), joinTime) // ctx has ended
	defer cancel()
	_ = f.pipe(ctx, func(eval evaluate) []*redis.Cmd { return []*redis.Cmd{f.showRow(eval, true)} }) // else it is shown for a while
}

// offer passes on what others have found.
func (f *Fleet) offer(now time.Time) {
	b := f.board
	b.mu.Lock()
	var list []Verdict
	for p, v := range b.known {
		switch {
		case !now.Before(v.Until):
			delete(b.known, p)
		case v.process != f.id && v.Word != Ejected:
			list = append(list, v.Verdict)
		}
	}
	for p, d := range b.dispute {
		if now.After(d.until) {
			delete(b.dispute, p)
		}
	}
	b.mu.Unlock()
	if f.o.Board.Others != nil && !b.seen.IsZero() {
		f.o.Board.Others(list)
	}
}

// look says what waits and, with row, that this process lives, and hears what is new.
// changed: what others have found has.
func (f *Fleet) look(ctx context.Context, row bool) (changed bool, err error) {
	b := f.board
	b.mu.Lock()
	posts := b.posts
	b.posts = map[pair]post{}
	all := time.Since(b.seen) > keepTime/2 // what was withdrawn meanwhile may be forgotten
	version := b.version
	if all {
		version = "0"
	}
	b.mu.Unlock()
	heard := map[pair]bool{}
	for first := true; ; first = false {
		rows, id, err := f.lookOnce(ctx, version, posts, row && first)
		if err != nil {
			b.mu.Lock()
			for p, x := range posts { // again, unless there is something newer
				if _, ok := b.posts[p]; !ok && (x.Word == withdrawn || time.Now().Before(x.Until)) {
					b.posts[p] = x
				}
			}
			b.mu.Unlock()
			return changed, err
		}
		posts = nil
		if first && id != b.id { // another Redis, or one that has lost its data: what is held goes on to its end
			b.id = id
			f.sayAll()
			if version != "0" {
				version, all = "0", false
				continue
			}
			all = false
		}
		for _, r := range rows {
			heard[r.pair] = true
			changed = f.hear(r) || changed
			version = r.version
		}
		if len(rows) < mostAnswers {
			break
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version, b.seen = version, time.Now()
	for p, v := range b.known {
		if all && !heard[p] {
			delete(b.known, p)
			changed = changed || v.process != f.id
		}
	}
	return changed, nil
}

// sayAll says all that this process has found and still holds.
func (f *Fleet) sayAll() {
	if f.o.Board.Own == nil {
		return
	}
	for _, v := range f.o.Board.Own() {
		f.board.mu.Lock()
		delete(f.board.known, pair{v.Exit, v.Exchange, v.Kind})
		f.board.mu.Unlock()
		f.Found(v)
	}
}

// boardRow is a verdict in an answer of Redis.
type boardRow struct {
	pair
	posted
}

// hear takes over one row, and reports whether others have found something else.
func (f *Fleet) hear(r boardRow) (changed bool) {
	b, now := f.board, time.Now()
	b.mu.Lock()
	old, known := b.known[r.pair]
	own := r.process == f.id
	if r.Word == withdrawn {
		if known && old.process == f.id && !own {
			b.dispute[r.pair] = disputed{old.Word, now.Add(disputeTime)}
		}
		delete(b.known, r.pair)
		b.mu.Unlock()
		return known || own // what this process withdraws, it knows no longer
	}
	b.known[r.pair] = r.posted
	hint := r.Word == Ejected && !own && (!known || old.version != r.version)
	b.mu.Unlock()
	if hint && f.o.Board.Hint != nil {
		f.o.Board.Hint(r.Verdict)
	}
	return !own || known && old.process != f.id
}

// lookOnce makes one call.
func (f *Fleet) lookOnce(ctx context.Context, version string, posts map[pair]post, row bool) (rows []boardRow, id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	prefix := "proxyd:" + f.o.Name + ":{fleet}:verdicts"
	keys := []string{prefix, prefix + ":changed", prefix + ":end", prefix + ":board"}
	args := []any{f.id, f.id + strconv.FormatInt(time.Now().UnixNano(), 16), version, mostPairs, mostAnswers, longestHold.Milliseconds() + keepTime.Milliseconds(), keepTime.Microseconds()}
	text, _ := json.Marshal(boardText{Host: f.o.Host}) // plain fields cannot fail
	for p, x := range posts {
		if x.Word == withdrawn {
			args = append(args, "w", p.key(), x.version, string(text))
			continue
		}
		left := min(time.Until(x.Until), longestHold)
		if left <= 0 {
			continue
		}
		said, _ := json.Marshal(boardText{f.o.Host, x.Text})
		args = append(args, "p", p.key(), x.Word, string(said), left.Microseconds(), slack(x.Word).Microseconds())
	}
	var cmd *redis.Cmd
	start := time.Now()
	err = f.pipe(ctx, func(eval evaluate) []*redis.Cmd {
		cmd = eval(verdictsScript, keys, args)
		if row {
			return []*redis.Cmd{f.showRow(eval, false), cmd}
		}
		return []*redis.Cmd{cmd}
	})
	if err != nil {
		return nil, "", err
	}
	return parseBoard(cmd.Val(), start)
}
