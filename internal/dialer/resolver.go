package dialer

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
	answerFresh   = 30 * time.Second // an upstream's addresses are looked up again after this
	answerStale   = time.Hour        // and are used for so long when look-ups fail
	answerFailed  = 5 * time.Second  // a failed refresh is tried again after this
	refreshWait   = time.Second      // a dial waits for a refresh at most this long when it has an older answer
	lookupTimeout = 5 * time.Second
	keptAnswers   = 4096 // names; only a huge configuration has more
	maxAddresses  = 8    // of one name are tried
)

// LookupFunc has the signature of net.Resolver.LookupNetIP.
type LookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// Resolver resolves names. It lives as long as the process: the addresses of
// upstreams outlive a reload and, for an hour, a name server that fails. It runs
// no goroutine of its own: the first caller that needs a name looks it up, and
// the others wait for that answer. It is safe for concurrent use.
type Resolver struct {
	lookup LookupFunc
	now    func() time.Time

	mu      sync.Mutex
	answers map[string]*cachedAnswer
}

// cachedAnswer is the answer for one name. addrs is replaced, never modified.
type cachedAnswer struct {
	addrs  []netip.Addr
	at     time.Time     // when addrs came
	retry  time.Time     // no new look-up before this, while addrs are usable
	asking chan struct{} // closed when the current look-up ends; nil without one
	err    error         // of the last look-up
}

// NewResolver returns a resolver that looks names up with lookup or, if that is
// nil, at the system's name servers.
func NewResolver(lookup LookupFunc) *Resolver {
	if lookup == nil {
		lookup = (&nameservers{system: systemServers}).lookup
	}
	return &Resolver{lookup: lookup, now: time.Now, answers: map[string]*cachedAnswer{}}
}

// Lookup resolves a target's name, for at most 5 s; network is ip, ip4 or ip6.
// Nothing is cached: whoever owns the name may change its addresses at any time.
func (r *Resolver) Lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
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

// LookupCached returns the addresses of an upstream's name, from the cache for
// 30 s. The caller must not modify them.
func (r *Resolver) LookupCached(ctx context.Context, host string) ([]netip.Addr, error) {
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
			return r.refresh(ctx, host, a, usable)
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

// Known returns the addresses that LookupCached last returned for a name, none if
// they are older than an hour. It looks nothing up. The caller must not modify them.
func (r *Resolver) Known(host string) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.answers[host]; a != nil && r.now().Sub(a.at) < answerStale {
		return a.addrs
	}
	return nil
}

// Doubt notes that none of the addresses that LookupCached returned could be
// connected to: the name is looked up again before its next use, answerFailed after
// the last look-up at the earliest. It reports whether the name servers said in the
// last look-up that the name does not exist.
func (r *Resolver) Doubt(host string) (gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.answers[host]
	if a == nil {
		return false
	}
	if age := r.now().Sub(a.at); age >= answerFailed && age < answerFresh {
		a.at = a.at.Add(age - answerFresh)
	}
	e, ok := errors.AsType[*net.DNSError](a.err)
	return ok && e.IsNotFound
}

// outcome returns the result of another caller's look-up. It does not count if
// that caller gave up.
func (r *Resolver) outcome(a *cachedAnswer) (addrs []netip.Addr, counts bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.err == nil {
		return a.addrs, len(a.addrs) > 0, nil
	}
	return nil, !errors.Is(a.err, context.Canceled) && !errors.Is(a.err, context.DeadlineExceeded), a.err
}

// refresh looks a name up for all callers that wait for it.
func (r *Resolver) refresh(ctx context.Context, host string, a *cachedAnswer, usable bool) ([]netip.Addr, error) {
	askCtx, cancel := ctx, context.CancelFunc(func() {})
	if usable {
		askCtx, cancel = context.WithTimeout(ctx, refreshWait)
	}
	addrs, err := r.Lookup(askCtx, "ip", host)
	cancel()
	if _, ours := errors.AsType[*NoDNSError](err); err != nil && ctx.Err() != nil && !ours {
		err = ctx.Err() // whatever the resolver calls it
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

// entry returns the entry of a name, a new one if there is none. r.mu is held.
func (r *Resolver) entry(host string) *cachedAnswer {
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
	a := &cachedAnswer{}
	r.answers[host] = a
	return a
}

// tidy returns at most maxAddresses of addrs, unmapped and without duplicates,
// with the families interleaved (RFC 8305 section 4).
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
