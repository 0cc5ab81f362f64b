package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	answerFresh   = 30 * time.Second // an upstream's addresses are asked for again after this
	answerStale   = time.Hour        // and serve so long when the resolver fails
	answerFailed  = 5 * time.Second  // a failed refresh is tried again after this
	refreshWait   = time.Second      // most that a dial waits for a refresh when older answers are at hand
	lookupTimeout = 5 * time.Second
	keptAnswers   = 4096 // names; configured ones, so this is never reached but by a huge list
	maxAddresses  = 8    // of one name are tried
)

// LookUp has the shape of net.Resolver's LookupNetIP.
type LookUp func(ctx context.Context, network, host string) ([]netip.Addr, error)

// resolver finds addresses. It lives as long as the process: the answers for
// upstreams outlive a reload, and a failing name server for an hour, so that
// pools go on without it. It runs no goroutine: who needs a name asks for it,
// and others that need it meanwhile wait for that answer.
type resolver struct {
	lookup LookUp
	now    func() time.Time

	mu      sync.Mutex
	answers map[string]*answer
}

// answer is what is known of one name. addrs is replaced, never changed.
type answer struct {
	addrs  []netip.Addr
	at     time.Time     // when addrs came
	retry  time.Time     // not asked again before this, while addrs serve
	asking chan struct{} // closed when the look-up under way ends; nil when there is none
	err    error         // of the last look-up
}

func newResolver(lookup LookUp) *resolver {
	if lookup == nil {
		lookup = (&nameservers{system: systemServers}).lookup
	}
	return &resolver{lookup: lookup, now: time.Now, answers: map[string]*answer{}}
}

// fresh looks a target's name up. Nothing is kept: the answer of a name that
// is not ours may change from one moment to the next.
func (r *resolver) fresh(ctx context.Context, network, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := r.lookup(ctx, network, host)
	if err != nil {
		return nil, err
	}
	if addrs = tidy(addrs); len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

// kept gives an upstream's addresses. The caller must not change them.
func (r *resolver) kept(ctx context.Context, host string) ([]netip.Addr, error) {
	for {
		r.mu.Lock()
		a := r.entry(host)
		now := r.now()
		usable := len(a.addrs) > 0 && now.Sub(a.at) < answerStale
		if usable && (now.Sub(a.at) < answerFresh || now.Before(a.retry) || a.asking != nil) {
			addrs := a.addrs
			r.mu.Unlock()
			return addrs, nil
		}
		if a.asking == nil {
			a.asking = make(chan struct{})
			r.mu.Unlock()
			return r.ask(ctx, host, a, usable)
		}
		asking := a.asking
		r.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if addrs, counts, err := r.outcome(a); counts {
			return addrs, err
		}
	}
}

// outcome is what a look-up by somebody else has brought. It does not count
// when it only failed because they gave up.
func (r *resolver) outcome(a *answer) (addrs []netip.Addr, counts bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.err == nil {
		return a.addrs, len(a.addrs) > 0, nil
	}
	return nil, !errors.Is(a.err, context.Canceled) && !errors.Is(a.err, context.DeadlineExceeded), a.err
}

// ask looks a name up for all who wait for it.
func (r *resolver) ask(ctx context.Context, host string, a *answer, usable bool) ([]netip.Addr, error) {
	askCtx, cancel := ctx, context.CancelFunc(func() {})
	if usable {
		askCtx, cancel = context.WithTimeout(ctx, refreshWait)
	}
	addrs, err := r.fresh(askCtx, "ip", host)
	cancel()
	if _, ours := errors.AsType[*noDNS](err); err != nil && ctx.Err() != nil && !ours {
		err = ctx.Err() // whatever words the resolver has for it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	close(a.asking)
	a.asking, a.err = nil, err
	if err == nil {
		a.addrs, a.at = addrs, r.now()
		return addrs, nil
	}
	if usable {
		a.retry = r.now().Add(answerFailed)
		return a.addrs, nil
	}
	return nil, err
}

// entry finds a name's answer or makes room for it. r.mu is held.
func (r *resolver) entry(host string) *answer {
	if a := r.answers[host]; a != nil {
		return a
	}
	if len(r.answers) >= keptAnswers {
		for name, a := range r.answers {
			if a.asking == nil && len(r.answers) >= keptAnswers {
				delete(r.answers, name)
			}
		}
	}
	a := &answer{}
	r.answers[host] = a
	return a
}

// tidy unmaps, drops doubles, keeps at most maxAddresses and lets the families
// take turns, the first one's first (RFC 8305 section 4).
func tidy(addrs []netip.Addr) []netip.Addr {
	var mine, other []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		switch {
		case !a.IsValid() || slices.Contains(mine, a) || slices.Contains(other, a):
		case len(mine) == 0 || mine[0].Is4() == a.Is4():
			mine = append(mine, a)
		default:
			other = append(other, a)
		}
		if len(mine)+len(other) >= 16*maxAddresses {
			break // an absurd answer
		}
	}
	turns := make([]netip.Addr, 0, maxAddresses)
	for i := 0; len(turns) < maxAddresses && (i < len(mine) || i < len(other)); i++ {
		if i < len(mine) {
			turns = append(turns, mine[i])
		}
		if i < len(other) && len(turns) < maxAddresses {
			turns = append(turns, other[i])
		}
	}
	return turns
}
