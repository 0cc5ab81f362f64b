//go:build !windows

package fleet

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

// hostBoard is a process of a test that shares verdicts.
type hostBoard struct {
	*Fleet
	stop func()

	mu    sync.Mutex
	own   []Verdict
	heard []Verdict
	hints []Verdict
}

func newHostBoard(t *testing.T, url, host string) *hostBoard {
	t.Helper()
	h := &hostBoard{}
	f, err := New(Options{URL: url, Name: "test", Host: host, Table: limit.NewTable(nil), Board: Board{
		Own:    func() []Verdict { return locked(h, func() []Verdict { return slices.Clone(h.own) }) },
		Others: func(list []Verdict) { locked(h, func() int { h.heard = list; return 0 }) },
		Hint:   func(v Verdict) { locked(h, func() int { h.hints = append(h.hints, v); return 0 }) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.Fleet = f
	h.stop = run(t, f)
	return h
}

func locked[T any](h *hostBoard, do func() T) T {
	h.mu.Lock()
	defer h.mu.Unlock()
	return do()
}

// others returns what others have found, in words.
func (h *hostBoard) others() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for _, v := range h.heard {
		list = append(list, fmt.Sprintf("%s %s %s: %s (%s) by %s", v.Exit, v.Exchange, v.Kind, v.Word, v.Text, v.Host))
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

func (h *hostBoard) until() time.Time {
	return locked(h, func() time.Time { return h.heard[0].Until })
}

func (h *hostBoard) eventually(t *testing.T, within time.Duration, want string) {
	t.Helper()
	testkit.Eventually(t, within, h.o.Host+" hears: "+want, func() bool { return h.others() == want })
}

func geoblocked(hold time.Duration) Verdict {
	return Verdict{Exit: "tokyo-ip", Exchange: "binance", Kind: "http", Word: "geoblocked", Text: "HTTP 451", Until: time.Now().Add(hold)}
}

const heardOfA = "tokyo-ip binance http: geoblocked (HTTP 451) by a"

// Promise (routing): What an exchange answers to one host about an exit holds for all
// hosts within a second; a good answer to any of them ends it for all.
func TestVerdictHoldsForAllHosts(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	a, b, c := newHostBoard(t, r.URL(), "a"), newHostBoard(t, r.URL(), "b"), newHostBoard(t, r.URL(), "c")
	v := geoblocked(time.Minute)
	a.Found(v)
	b.eventually(t, time.Second, heardOfA)
	c.eventually(t, time.Second, heardOfA)
	if off := b.until().Sub(v.Until).Abs(); off > 100*time.Millisecond {
		t.Errorf("it ends %v from where it was said", off)
	}
	if got := a.others(); got != "" {
		t.Errorf("it came back to its own host: %s", got)
	}
	b.Found(Verdict{Exit: v.Exit, Exchange: v.Exchange, Kind: v.Kind, Word: "ok"})
	b.eventually(t, time.Second, "")
	c.eventually(t, time.Second, "")
	a.Found(v) // and finds it again: the two do not take turns
	time.Sleep(3 * lookEvery)
	if got := c.others(); got != "" {
		t.Errorf("a host said again what another has withdrawn: %s", got)
	}
	late := newHostBoard(t, r.URL(), "late")
	v.Word = "rate_limited" // that is news
	a.Found(v)
	late.eventually(t, 2*time.Second, strings.Replace(heardOfA, "geoblocked", "rate_limited", 1))
}

// awaitLibrary waits at the end of a test for the library, which goes on to dial for a
// second.
func awaitLibrary(t *testing.T) {
	t.Cleanup(func() {
		testkit.Eventually(t, testkit.Patience, "the library has ended", func() bool {
			stacks := make([]byte, 1<<20)
			return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "tryDial")
		})
	})
}

func TestVerdictOutlivesRedisAndEndsAtItsTime(t *testing.T) {
	t.Parallel()
	awaitLibrary(t)
	r := testkit.StartRedis(t)
	a, b := newHostBoard(t, r.URL(), "a"), newHostBoard(t, r.URL(), "b")
	v := geoblocked(3 * time.Second)
	a.Found(v)
	b.eventually(t, time.Second, heardOfA)
	r.Kill()
	time.Sleep(time.Second)
	if b.others() != heardOfA || !b.until().After(time.Now()) {
		t.Fatalf("it was gone with Redis: %q", b.others())
	}
	if off := b.until().Sub(v.Until).Abs(); off > 100*time.Millisecond {
		t.Errorf("it ends %v from its time", off)
	}
}

func TestVerdictsAreSharedByAFarRedis(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	a, b := newHostBoard(t, far(t, r, 25*time.Millisecond), "a"), newHostBoard(t, far(t, r, 25*time.Millisecond), "b")
	a.Found(geoblocked(time.Minute))
	b.eventually(t, time.Second, heardOfA)
	if s := b.State(); s.Used {
		t.Errorf("its budgets are shared by a Redis that is far: %+v", s)
	}
	testkit.Eventually(t, testkit.Patience, "both hosts are in the list", func() bool {
		hosts, _, err := b.Hosts(t.Context())
		return err == nil && len(hosts) == 2 && hosts[0].Alone
	})
}

func TestRedisThatHasLostVerdictsHearsThemAgain(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	a, b := newHostBoard(t, r.URL(), "a"), newHostBoard(t, r.URL(), "b")
	v := geoblocked(time.Minute)
	locked(a, func() int { a.own = []Verdict{v}; return 0 })
	a.Found(v)
	b.eventually(t, time.Second, heardOfA)
	r.Do("FLUSHALL")
	c := newHostBoard(t, r.URL(), "c")
	c.eventually(t, 2*time.Second, heardOfA)
	if got := b.others(); got != heardOfA {
		t.Errorf("b holds %q meanwhile", got)
	}
}

func TestConfirmedVerdictIsSaidSeldom(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	a, b := newHostBoard(t, r.URL(), "a"), newHostBoard(t, r.URL(), "b")
	a.Found(geoblocked(time.Minute))
	b.eventually(t, time.Second, heardOfA)
	before := r.Do("ZSCORE", "proxyd:test:{fleet}:verdicts:changed", "tokyo-ip|binance|http")
	first := b.until()
	a.Found(geoblocked(2 * time.Minute))
	time.Sleep(2 * lookEvery)
	if r.Do("ZSCORE", "proxyd:test:{fleet}:verdicts:changed", "tokyo-ip|binance|http") != before || !b.until().Equal(first) {
		t.Error("a minute more was said")
	}
	a.Found(geoblocked(5 * time.Minute))
	testkit.Eventually(t, time.Second, "b hears that it holds for longer", func() bool { return b.until().After(first.Add(3 * time.Minute)) })
}

func TestEjectionIsAHintOnce(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	a, b := newHostBoard(t, r.URL(), "a"), newHostBoard(t, r.URL(), "b")
	hint := Verdict{Exit: "tokyo-ip", Word: Ejected, Text: "upstream_refused", Until: time.Now().Add(30 * time.Second)}
	hints := func(h *hostBoard) int { return locked(h, func() int { return len(h.hints) }) }
	a.Found(hint)
	testkit.Eventually(t, time.Second, "b hears the hint", func() bool { return hints(b) == 1 })
	b.Found(hint) // its own probe has failed too
	time.Sleep(3 * lookEvery)
	if hints(a) != 0 || hints(b) != 1 || a.others()+b.others() != "" {
		t.Errorf("a has %d hints, b %d; verdicts %q %q", hints(a), hints(b), a.others(), b.others())
	}
}

// Promise (security): What stands in Redis is not trusted: texts are cut and made
// printable, and what is no verdict is left out.
func TestForeignRowsAreNotTrusted(t *testing.T) {
	t.Parallel()
	minute := time.Minute.Microseconds()
	long := strings.Repeat("x", 5000)
	value := func(word, host, text string) string {
		return fmt.Sprintf("0123 %s {\"host\":%q,\"text\":%q}", word, host, text)
	}
	row := func(name, value string, left any) []any { return []any{name, value, "7", left} }
	for name, c := range map[string][]any{
		"another word":      row("a|binance|http", value("great", "h", "t"), minute),
		"no exchange":       row("a||", value("geoblocked", "h", "t"), minute),
		"another kind":      row("a|binance|ftp", value("geoblocked", "h", "t"), minute),
		"an escape":         row("a\x1b|binance|http", value("geoblocked", "h", "t"), minute),
		"no UTF-8":          row("a\xff|binance|http", value("geoblocked", "h", "t"), minute),
		"a long name":       row(long+"|binance|http", value("geoblocked", "h", "t"), minute),
		"a long text":       row("a|binance|http", value("geoblocked", "h", long), minute),
		"two parts":         row("a|binance", value("geoblocked", "h", "t"), minute),
		"no JSON":           row("a|binance|http", "0123 geoblocked <script>", minute),
		"ejected exchange":  row("a|binance|http", value("ejected", "h", "t"), minute),
		"a row of nothing":  {},
		"a row of numbers":  {int64(1), int64(2), int64(3), int64(4)},
		"an empty value":    row("a|binance|http", "", minute),
		"a value of spaces": row("a|binance|http", "   ", minute),
	} {
		rows, _, err := parseBoard([]any{"id", []any{any(c)}}, time.Now())
		if err != nil || len(rows) != 1 || rows[0].Word != withdrawn || rows[0].pair != (pair{}) {
			t.Errorf("%s: %+v, %v", name, rows, err)
		}
	}
	rows, _, _ := parseBoard([]any{"id", []any{row("a|binance|http", `0123 blocked {"host":"\u001b[31m<script>`+long[:100]+`","text":"two\nlines"}`, int64(1)<<62)}}, time.Now())
	if v := rows[0].Verdict; len(v.Host) > 70 || strings.ContainsAny(v.Host+v.Text, "\x1b\n") || time.Until(v.Until) > longestHold {
		t.Errorf("%+v", v)
	}
	if _, _, err := parseBoard([]any{"id", make([]any, mostAnswers+1)}, time.Now()); err == nil {
		t.Error("more rows than asked for were taken")
	}
}

func TestRedisKeepsABoundedNumberOfVerdicts(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	a, b := newHostBoard(t, r.URL(), "a"), newHostBoard(t, r.URL(), "b")
	for i := range mostPairs + 100 {
		v := geoblocked(time.Minute)
		v.Exit = fmt.Sprint("exit-", i)
		for a.Found(v); locked(a, func() bool { a.board.mu.Lock(); defer a.board.mu.Unlock(); return len(a.board.posts) > 500 }); {
			time.Sleep(time.Millisecond)
		}
	}
	testkit.Eventually(t, 10*time.Second, "b hears as many as there may be", func() bool { return locked(b, func() int { return len(b.heard) }) == mostPairs })
	if got := strings.TrimSpace(r.Do("HLEN", "proxyd:test:{fleet}:verdicts")); got != fmt.Sprintf(":%d", mostPairs) {
		t.Errorf("Redis has %s", got)
	}
}
