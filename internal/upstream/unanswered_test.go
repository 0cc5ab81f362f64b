package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

var errClientLeft = errors.New("EOF of the client")

// ask sends a plain request for a host of an exchange; its client leaves after
// patience.
func ask(t testing.TB, p *Pool, exchange, body string, patience time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	defer time.AfterFunc(patience, func() { cancel(errClientLeft) }).Stop()
	host := cmpHost(exchange)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+"/x", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		req.Method, req.Body = http.MethodGet, http.NoBody
	}
	resp, _, err := p.RoundTrip(req, Target{Host: host, Port: 80, Exchange: exchange, Kind: catalog.KindHTTP}, testkit.Patience)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

func cmpHost(exchange string) string {
	if exchange == "" {
		return "rest.example"
	}
	return "api." + exchange + ".com"
}

// TestUpstreamThatAnswersNoRequestIsEjected: an upstream that takes plain requests and answers none
// is ejected when that is seen to be its own doing, and only then.
//
// Promise (plain HTTP): an HTTP upstream that takes requests and answers none is
// taken out of use once others answer, or once it has left several exchanges'
// requests unanswered; an exchange that is slow ejects no upstream.
func TestUpstreamThatAnswersNoRequestIsEjected(t *testing.T) {
	t.Parallel()
	const binance, kraken, impatient, patient = "binance", "kraken", 50 * time.Millisecond, 600 * time.Millisecond
	frozen := testkit.On(testkit.AtRequest, testkit.Hang)
	type world struct {
		a    *testkit.Proxy
		pool *Pool
		ask  func(exchange, body string, patience time.Duration) error
	}
	times := func(n int, w *world, exchange, body string, patience time.Duration) {
		for range n {
			_ = w.ask(exchange, body, patience)
		}
	}
	for _, c := range []struct {
		name    string
		members string // a is frozen, b is well
		do      func(w *world)
		out     string
	}{
		{"others answer for that exchange", "ab", func(w *world) { times(6, w, binance, "", patient) }, "a"},
		{"others answer for another exchange only", "ab", func(w *world) {
			for range 3 {
				times(1, w, binance, "", patient) // a's turn
				times(1, w, kraken, "", patient)
			}
		}, ""},
		{"nothing else is known", "a", func(w *world) { times(6, w, binance, "", patient) }, ""},
		{"hosts of no exchange", "ab", func(w *world) { times(6, w, "", "", patient) }, ""},
		{"of several exchanges", "a", func(w *world) {
			times(2, w, binance, "", patient)
			times(1, w, kraken, "", patient)
		}, "a"},
		{"clients that leave at once", "ab", func(w *world) { times(8, w, binance, "", impatient) }, ""},
		{"requests with a body", "ab", func(w *world) { times(8, w, binance, "body", patient) }, ""},
		{"an answer in between", "a", func(w *world) {
			times(2, w, binance, "", patient)
			w.a.SetFault(nil)
			times(1, w, binance, "", patient)
			w.a.SetFault(frozen)
			times(2, w, kraken, "", patient)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := testkit.ProxyOptions{Hosts: map[string]string{"*": answering(t).Addr}}
			w := &world{a: testkit.NewProxy(t, o)}
			w.a.SetFault(frozen)
			list := fmt.Sprintf("{name: a, url: %q}", w.a.URL())
			if c.members == "ab" {
				list += fmt.Sprintf(", {name: b, url: %q}", testkit.NewProxy(t, o).URL())
			}
			s := load(t, "attempt_seconds: 0.2\npools: {p: {strategy: round_robin, proxies: ["+list+"]}}\ndefault: p\n", nil)
			t.Cleanup(s.Close)
			w.pool = only(t, s)
			w.ask = func(exchange, body string, patience time.Duration) error {
				return ask(t, w.pool, exchange, body, patience)
			}
			c.do(w)
			if got := out(s); got != c.out {
				t.Errorf("ejected: %q, want %q", got, c.out)
			}
			if c.out != "" && c.members == "ab" {
				for range 4 {
					if err := w.ask(binance, "", testkit.Patience); err != nil {
						t.Errorf("with a ejected: %v", err)
					}
				}
			}
		})
	}
}

// TestClientThatHasWaitedInVainDidNotJustLeave: a client that has waited in vain did not just leave.
func TestClientThatHasWaitedInVainDidNotJustLeave(t *testing.T) {
	t.Parallel()
	a := testkit.NewProxy(t, testkit.ProxyOptions{Fault: testkit.On(testkit.AtRequest, testkit.Hang)})
	s := load(t, fmt.Sprintf("attempt_seconds: 0.2\npools: {p: {proxies: [{name: a, url: %q}]}}\ndefault: p\n", a.URL()), nil)
	t.Cleanup(s.Close)
	var e *failure.Error
	if err := ask(t, only(t, s), "binance", "", 600*time.Millisecond); !errors.As(err, &e) || e.Class != failure.TargetTimeout ||
		e.Upstream != "a" || !strings.Contains(e.Text, "had the request and had not answered when the client left, ") {
		t.Errorf("after a while: %v", err)
	}
	if err := ask(t, only(t, s), "binance", "", 20*time.Millisecond); !errors.Is(err, context.Canceled) {
		t.Errorf("at once: %v", err)
	}
}
