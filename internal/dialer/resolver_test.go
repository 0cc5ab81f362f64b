package dialer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// names is a name server for one resolver. It runs in a bubble of synctest.
type fakeNames struct {
	mu    sync.Mutex
	addrs []netip.Addr
	err   error
	takes time.Duration
	asked []string
}

func (n *fakeNames) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked = append(n.asked, network+" "+host)
	addrs, err, takes := n.addrs, n.err, n.takes
	n.mu.Unlock()
	select {
	case <-time.After(takes):
		return addrs, err
	case <-ctx.Done():
		return nil, &net.DNSError{Err: ctx.Err().Error(), Name: host, IsTimeout: errors.Is(ctx.Err(), context.DeadlineExceeded)}
	}
}

// says sets what the next look-ups find.
func (n *fakeNames) says(err error, takes time.Duration, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs, n.err, n.takes = nil, err, takes
	for _, a := range addrs {
		n.addrs = append(n.addrs, netip.MustParseAddr(a))
	}
}

func (n *fakeNames) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.asked)
}

var errServer = &net.DNSError{Err: "server misbehaving", Name: "px.example", IsTemporary: true}

// gives looks up the upstream's name and compares. want is one address, or "" for a failure.
func gives(t *testing.T, r *Resolver, want string) {
	t.Helper()
	addrs, err := r.LookupCached(context.Background(), "px.example")
	got := ""
	if err == nil {
		got = addrs[0].String()
	}
	if got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// An upstream's addresses are asked for every 30 s at most, and no more often.
func TestCachedIsFreshFor30Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNames{}
		r := NewResolver(n.lookup)
		n.says(nil, 0, "192.0.2.1")
		gives(t, r, "192.0.2.1")
		n.says(nil, 0, "192.0.2.2")
		time.Sleep(30*time.Second - 1)
		gives(t, r, "192.0.2.1")
		if n.count() != 1 {
			t.Errorf("%d look-ups within 30 s", n.count())
		}
		time.Sleep(time.Nanosecond)
		gives(t, r, "192.0.2.2")
		if got := fmt.Sprint(n.asked); got != "[ip px.example ip px.example]" {
			t.Errorf("asked %s", got)
		}
	})
}

// With the name server dead the last answer serves for an hour, and then no more.
func TestCachedServesStaleForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNames{}
		r := NewResolver(n.lookup)
		n.says(nil, 0, "192.0.2.1")
		gives(t, r, "192.0.2.1")
		n.says(errServer, 0)
		for start := time.Now(); time.Since(start) < time.Hour-time.Minute; time.Sleep(time.Minute) {
			gives(t, r, "192.0.2.1")
		}
		time.Sleep(time.Minute)
		gives(t, r, "")
		n.says(nil, 0, "192.0.2.3")
		gives(t, r, "192.0.2.3") // a failure is not remembered where there is nothing to serve
	})
}

// A refresh that fails is not tried again with every dial.
func TestCachedRetriesAfter5Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNames{}
		r := NewResolver(n.lookup)
		n.says(nil, 0, "192.0.2.1")
		gives(t, r, "192.0.2.1")
		time.Sleep(30 * time.Second)
		n.says(errServer, 0)
		gives(t, r, "192.0.2.1")
		n.says(nil, 0, "192.0.2.2")
		time.Sleep(5*time.Second - 1)
		gives(t, r, "192.0.2.1")
		if n.count() != 2 {
			t.Errorf("%d look-ups before the 5 s are over, want 2", n.count())
		}
		time.Sleep(time.Nanosecond)
		gives(t, r, "192.0.2.2")
	})
}

// A name whose addresses do not work is looked up again before its next use, 5 s
// after the last look-up at the earliest; that it is gone is known then.
func TestDoubtfulAddressesAreLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNames{}
		r := NewResolver(n.lookup)
		n.says(nil, 0, "192.0.2.1")
		gives(t, r, "192.0.2.1")
		time.Sleep(10 * time.Second)
		n.says(&net.DNSError{Err: "no such host", Name: "px.example", IsNotFound: true}, 0)
		if r.Doubt("px.example") {
			t.Error("gone, before it was looked up")
		}
		gives(t, r, "192.0.2.1")
		if !r.Doubt("px.example") {
			t.Error("not gone")
		}
		n.says(nil, 0, "192.0.2.2")
		time.Sleep(5*time.Second - 1)
		gives(t, r, "192.0.2.1")
		time.Sleep(time.Nanosecond)
		gives(t, r, "192.0.2.2")
		n.says(nil, 0, "192.0.2.3")
		if r.Doubt("px.example") {
			t.Error("gone, though it was found")
		}
		gives(t, r, "192.0.2.2")
		if n.count() != 3 {
			t.Errorf("%d look-ups, want 3", n.count())
		}
		if r.Doubt("other.example") {
			t.Error("gone, though it was never asked for")
		}
		n.says(errServer, 0)
		time.Sleep(10 * time.Second)
		_ = r.Doubt("px.example")
		gives(t, r, "192.0.2.2")
		if r.Doubt("px.example") {
			t.Error("gone, though the name server fails")
		}
	})
}

// A slow name server holds a dial for a second at most while older answers are at hand.
func TestCachedWaitsASecondForRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNames{}
		r := NewResolver(n.lookup)
		n.says(nil, 0, "192.0.2.1")
		gives(t, r, "192.0.2.1")
		time.Sleep(30 * time.Second)
		n.says(nil, time.Hour, "192.0.2.2")
		start := time.Now()
		done := make(chan time.Duration, 2)
		go func() { gives(t, r, "192.0.2.1"); done <- time.Since(start) }()
		synctest.Wait()
		go func() { gives(t, r, "192.0.2.1"); done <- time.Since(start) }()
		if d := <-done; d != 0 {
			t.Errorf("one that did not ask waited for %v", d)
		}
		if d := <-done; d != time.Second {
			t.Errorf("the one that asked waited for %v", d)
		}
	})
}

// A hundred concurrent dials look up once.
func TestCachedLooksUpOnceForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNames{}
		r := NewResolver(n.lookup)
		for _, answer := range []string{"192.0.2.1", ""} { // "" fails: all of them hear of it
			before := n.count()
			if n.says(nil, time.Second, "192.0.2.1"); answer == "" {
				n.says(errServer, time.Second)
				time.Sleep(time.Hour)
			}
			var all sync.WaitGroup
			start := time.Now()
			for range 100 {
				all.Go(func() { gives(t, r, answer) })
			}
			all.Wait()
			if n.count() != before+1 || time.Since(start) != time.Second {
				t.Errorf("%d look-ups in %v", n.count()-before, time.Since(start))
			}
		}
	})
}

// A caller that gives up does not affect the others: they ask again.
func TestCachedLookupOutlivesCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNames{}
		r := NewResolver(n.lookup)
		n.says(nil, 3*time.Second, "192.0.2.1")
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := r.LookupCached(short, "px.example"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one who gives up got %v", err)
			}
		})
		synctest.Wait()
		for range 10 {
			all.Go(func() { gives(t, r, "192.0.2.1") })
		}
		brief, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer stop()
		start := time.Now()
		if _, err := r.LookupCached(brief, "px.example"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 500*time.Millisecond {
			t.Errorf("a waiter's own time: %v after %v", err, time.Since(start))
		}
		all.Wait()
		if n.count() != 2 {
			t.Errorf("%d look-ups, want 2", n.count())
		}
	})
}

// A look-up takes 5 s at most, whatever the name server does.
func TestLookupTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNames{}
		r := NewResolver(n.lookup)
		n.says(nil, time.Hour, "192.0.2.1")
		start := time.Now()
		if _, err := r.LookupCached(context.Background(), "px.example"); !IsTimeout(err) || time.Since(start) != 5*time.Second {
			t.Errorf("an upstream's: %v after %v", err, time.Since(start))
		}
		start = time.Now()
		if _, err := r.Lookup(context.Background(), "ip", "px.example"); !IsTimeout(err) || time.Since(start) != 5*time.Second {
			t.Errorf("a target's: %v after %v", err, time.Since(start))
		}
	})
}

// Targets' names are looked up each time.
func TestLookupIsNotCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNames{}
		r := NewResolver(n.lookup)
		for _, want := range []string{"192.0.2.1", "192.0.2.2"} {
			n.says(nil, 0, want)
			if got, err := r.Lookup(t.Context(), "ip4", "x.example"); err != nil || got[0].String() != want {
				t.Errorf("got %v, %v; want %s", got, err, want)
			}
		}
		n.says(nil, 0)
		var dns *net.DNSError
		if _, err := r.Lookup(t.Context(), "ip4", "x.example"); !errors.As(err, &dns) || !dns.IsNotFound {
			t.Errorf("no address at all: %v", err)
		}
		if got := fmt.Sprint(n.asked); got != "[ip4 x.example ip4 x.example ip4 x.example]" {
			t.Errorf("asked %s", got)
		}
	})
}

// However many names there were, the cache is bounded.
func TestCacheIsBounded(t *testing.T) {
	n := &fakeNames{}
	n.says(nil, 0, "192.0.2.1")
	r := NewResolver(n.lookup)
	for i := range keptAnswers {
		r.answers[fmt.Sprintf("old%d.example", i)] = &cachedAnswer{}
	}
	for i := range 10 {
		if _, err := r.LookupCached(t.Context(), fmt.Sprintf("px%d.example", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.answers) > keptAnswers {
		t.Errorf("%d names", len(r.answers))
	}
}

func TestTidy(t *testing.T) {
	many := func(format string, n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf(format, i+1))
		}
		return list
	}
	tests := []struct {
		name     string
		in, want []string
	}{
		{"nothing", nil, nil},
		{"families take turns, the first one's first", []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2"}, []string{"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"}},
		{"IPv4 first stays first", []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}, []string{"192.0.2.1", "2001:db8::1", "192.0.2.2"}},
		{"doubles go, mapped ones too", []string{"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"}, []string{"192.0.2.1"}},
		{"eight at most", many("192.0.2.%d", 20), many("192.0.2.%d", 8)},
		{"eight of both", append(many("192.0.2.%d", 20), "2001:db8::1"), []string{"192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"}},
		{"an absurd answer", many("2001:db8::%x", 10_000), many("2001:db8::%x", 8)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var in []netip.Addr
			for _, a := range tt.in {
				in = append(in, netip.MustParseAddr(a))
			}
			var got []string
			for _, a := range tidy(in) {
				got = append(got, a.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
