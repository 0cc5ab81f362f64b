package health

import (
	"context"
	"errors"
	"net/http/httptrace"
	"sync"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/upstream"
)

// steps times the parts of a probe.
type steps struct {
	mu         sync.Mutex
	done       []Step
	dns, tcp   time.Time // when the first began
	connected  time.Time // when the first connection was there
	addresses  bool      // a DNS answer has been noted
	connecting bool      // a connection has been noted
}

func (s *steps) add(name string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, Step{name, took})
}

// since notes a step that began at start and ends now.
func (s *steps) since(name string, start time.Time) { s.add(name, time.Since(start)) }

func (s *steps) list() []Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Step(nil), s.done...)
}

// trace returns a context under which the standard library reports look-ups and
// connections. Of several at the same time the first to succeed counts.
func (s *steps) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { s.begin(&s.dns) },
		DNSDone: func(i httptrace.DNSDoneInfo) {
			if i.Err == nil {
				s.first(StepDNS, &s.dns, &s.addresses)
			}
		},
		ConnectStart: func(_, _ string) { s.begin(&s.tcp) },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				s.first(StepTCP, &s.tcp, &s.connecting)
			}
		},
	})
}

func (s *steps) begin(at *time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.IsZero() {
		*at = time.Now()
	}
}

func (s *steps) first(name string, began *time.Time, noted *bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *noted {
		return
	}
	*noted = true
	now := time.Now()
	s.done = append(s.done, Step{name, now.Sub(*began)})
	if name == StepTCP {
		s.connected = now
	}
}

func (p *probe) reach(ctx context.Context) error {
	if p.ask.Reach == nil {
		return nil
	}
	return p.ask.Reach(p.steps.trace(ctx))
}

// open connects to the target. StepProxy counts from the connection to the
// upstream; a direct connection has no such step.
func (p *probe) open(ctx context.Context) (*upstream.Conn, error) {
	conn, err := p.dial(p.steps.trace(ctx), p.ask.Target)
	if err != nil {
		return nil, err
	}
	p.steps.mu.Lock()
	connected := p.steps.connected
	p.steps.mu.Unlock()
	if !connected.IsZero() && (conn.Member == nil || !conn.Member.IsDirect()) {
		p.steps.since(StepProxy, connected)
	}
	return conn, nil
}

// failed returns the result of a connection that failed.
func failed(err error) Result {
	if e, ok := errors.AsType[*failure.Error](err); ok {
		r := Result{Verdict: Verdict(e.Class), Text: e.Text, Hint: e.Hint, Unsure: e.Unsure || e.Class == failure.TargetTimeout, Err: e}
		if e.RetryAfter > 0 {
			r.Until = time.Now().Add(min(e.RetryAfter, longestBan))
		}
		return r
	}
	return Result{Verdict: Verdict(failure.UpstreamTimeout), Text: "did not connect in time"}
}
