package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/testkit"
)

func newJournal() *event.Journal { return event.NewJournal(func(event.Event) {}) }

func lostEvent(exchange string) event.Event {
	return event.Event{Severity: event.Error, Type: event.ExchangeLost, Exchange: exchange, Kind: "websocket", Upstream: "tokyo-1", Text: "0 tunnels"}
}

// viewer is an open stream.
type viewer struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Scanner
	id    string // the last
}

// message is one server-sent event.
type message struct{ name, id, data string }

func view(t *testing.T, address, path string, fields ...string) *viewer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return &viewer{t: t, resp: resp, lines: lines}
}

// next returns the next message; without a name where the stream has ended.
func (v *viewer) next() (m message) {
	for v.lines.Scan() {
		name, value, _ := strings.Cut(v.lines.Text(), ": ")
		switch {
		case v.lines.Text() == "" && m.data != "":
			return m
		case name == "id":
			m.id, v.id = value, value
		case name == "event":
			m.name = value
		case name == "data":
			m.data = value
		}
	}
	return message{}
}

func (v *viewer) event() (e event.Event) {
	v.t.Helper()
	m := v.next()
	if err := json.Unmarshal([]byte(m.data), &e); err != nil || m.name != "event" || m.id != e.ID {
		v.t.Fatalf("%+v: %v", m, err)
	}
	return e
}

func TestEventsAnswerFilters(t *testing.T) {
	t.Parallel()
	o := wellOptions(t)
	o.Journal = newJournal()
	at := serve(t, o, "")
	o.Journal.Add(lostEvent("binance"))
	o.Journal.Add(event.Event{Severity: event.Info, Type: event.UpstreamBack, Upstream: "old-1", Text: "back"})
	o.Journal.Add(event.Event{Severity: event.Info, Type: event.Refused, Upstreams: []string{"old-2", "old-3"}, Text: "no"})
	for path, want := range map[string]int{
		"": 3, "?exchange=BINANCE": 1, "?exchange=okx": 0, "?upstream=old-1": 1, "?upstream=old-3": 1, "?upstream=direct": 0, "?severity=warn": 1, "?since=1h": 3, "?kind=http": 0,
		"?type=upstream_back&type=exchange_lost": 2, "?limit=1": 1, "?since=2020-01-02T03:04:05Z": 3,
	} {
		var a event.Answer
		r := get(t, at, "/api/v1/events"+path)
		if err := json.Unmarshal([]byte(r.body), &a); err != nil || r.status != 200 || len(a.Events) != want || a.Next == "" || a.RemembersSince.IsZero() {
			t.Errorf("%s: %d events, want %d: %d %s", path, len(a.Events), want, r.status, r.body)
		}
	}
	for path, want := range map[string]string{
		"?exchange=binanec": "no exchange", "?upstream=tokio-1": "no upstream", "?severity=bad": "none of info, warn, error", "?since=yesterday": "no duration",
		"?type=lost": "none of that name", "?limit=0": "number from 1 on", "?severty=warn": "no such parameter", "?since=-1h": "no duration",
	} {
		if r := get(t, at, "/api/v1/events"+path); r.status != 400 || !strings.Contains(r.body, want) {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}

func TestEventStreamGoesOnWhereItsViewerWas(t *testing.T) {
	t.Parallel()
	o := wellOptions(t)
	o.Journal = newJournal()
	at := serve(t, o, "")
	o.Journal.Add(lostEvent("binance"))
	v := view(t, at, "/api/v1/events?since=1h")
	if ct := v.resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatal(ct)
	}
	if e := v.event(); e.Exchange != "binance" {
		t.Fatalf("%+v", e)
	}
	o.Journal.Add(lostEvent("okx"))
	if e := v.event(); e.Exchange != "okx" {
		t.Fatalf("%+v", e)
	}
	_ = v.resp.Body.Close()
	o.Journal.Add(lostEvent("kraken"))
	if e := view(t, at, "/api/v1/events", "Last-Event-ID", v.id).event(); e.Exchange != "kraken" {
		t.Fatalf("%+v", e)
	}
	if m := view(t, at, "/api/v1/events", "Last-Event-ID", "00000000-9").next(); m.name != "gap" || !strings.Contains(m.data, "started again") {
		t.Fatalf("%+v", m)
	}
}

// A 17th viewer is refused, and is served once another has left.
func TestSeventeenthStreamIsRefused(t *testing.T) {
	t.Parallel()
	o := wellOptions(t)
	at := serve(t, o, "")
	var open []*viewer
	for i := range maxStreams {
		v := view(t, at, []string{"/api/v1/events", "/api/v1/status"}[i%2])
		if v.resp.StatusCode != http.StatusOK {
			t.Fatalf("stream %d: %s", i+1, v.resp.Status)
		}
		open = append(open, v)
	}
	if r := get(t, at, "/api/v1/events", "Accept: text/event-stream"); r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
		t.Fatalf("%d %v %s", r.status, r.header, r.body)
	}
	if r := get(t, at, "/api/v1/status"); r.status != http.StatusOK {
		t.Fatalf("beside the streams: %d", r.status)
	}
	_ = open[0].resp.Body.Close()
	testkit.Eventually(t, 5*time.Second, "a stream is free", func() bool { return view(t, at, "/api/v1/events").resp.StatusCode == http.StatusOK })
}

func TestFewConnectionsLeaveRoomBesideStreams(t *testing.T) {
	t.Parallel()
	o := wellOptions(t)
	o.MaxConns = 8
	s := New(o)
	at := serveBy(t, s, "")
	for range 4 {
		view(t, at, "/api/v1/events")
	}
	if r := get(t, at, "/api/v1/events", "Accept: text/event-stream"); r.status != http.StatusServiceUnavailable {
		t.Fatal(r.status)
	}
	for range 20 {
		testkit.Eventually(t, testkit.Patience, "the server has seen the end of the connection before", func() bool {
			s.conns.mu.Lock()
			defer s.conns.mu.Unlock()
			return len(s.conns.open) == 4
		})
		if r := get(t, at, "/api/v1/status"); r.status != http.StatusOK {
			t.Fatal(r.status)
		}
	}
}

func TestStatusStreamSharesOneStatusForAllViewers(t *testing.T) {
	t.Parallel()
	o := wellOptions(t)
	var asked atomic.Int64
	o.Status = func() Status { asked.Add(1); return wellStatus() }
	o.Journal = newJournal()
	at := serve(t, o, "")
	began := time.Now()
	var viewers []*viewer
	for range 5 {
		v := view(t, at, "/api/v1/status")
		var s Status
		if m := v.next(); m.name != "status" || json.Unmarshal([]byte(m.data), &s) != nil || s.PID != 42 || s.Exchanges == nil {
			t.Fatalf("%+v", m)
		}
		viewers = append(viewers, v)
	}
	for range 2 {
		for _, v := range viewers {
			if m := v.next(); m.name != "status" {
				t.Fatalf("%+v", m)
			}
		}
	}
	if n, most := asked.Load(), int64(time.Since(began)/statusEvery)+2; n > most {
		t.Errorf("%d statuses in %s", n, time.Since(began))
	}
	o.Journal.Add(lostEvent("binance"))
	for m := viewers[0].next(); m.name != "event"; m = viewers[0].next() {
		if m.name != "status" {
			t.Fatalf("%+v", m)
		}
	}
	for _, v := range viewers {
		_ = v.resp.Body.Close()
	}
	testkit.Eventually(t, 10*time.Second, "no status without viewers", func() bool {
		n := asked.Load()
		time.Sleep(2*statusEvery + 200*time.Millisecond)
		return asked.Load() == n
	})
}

// A stream outlives the limit for other answers, shows that it lives, and is no idle
// connection that makes room for others.
func TestStreamOutlivesOtherAnswers(t *testing.T) {
	t.Parallel()
	o := wellOptions(t)
	o.Journal, o.MaxConns = newJournal(), 8
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, done := New(o), make(chan error, 1)
	s.http.WriteTimeout, s.streams.alive = 50*time.Millisecond, 20*time.Millisecond
	go func() { done <- s.Serve(ln) }() // ends with Close
	t.Cleanup(func() { _ = s.Close(); <-done })
	at := ln.Addr().String()
	v := view(t, at, "/api/v1/events")
	for range 20 {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", at)
		_, _ = bufio.NewReader(conn).ReadString('\n') // it may be closed to make room
	}
	signs, began := 0, time.Now()
	for signs < 10 || time.Since(began) < 2*s.http.WriteTimeout {
		if !v.lines.Scan() {
			t.Fatalf("it has ended after %d signs of life", signs)
		}
		if v.lines.Text() == ": still here" {
			signs++
		}
	}
	o.Journal.Add(lostEvent("okx"))
	if e := v.event(); e.Exchange != "okx" {
		t.Fatalf("%+v", e)
	}
}

// A viewer that does not read is closed, and delays neither those that add events
// nor other viewers.
func TestViewerThatDoesNotReadIsClosed(t *testing.T) {
	t.Parallel()
	o := wellOptions(t)
	o.Journal = newJournal()
	at := serve(t, o, "")
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /api/v1/events HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", at)
	reader := view(t, at, "/api/v1/events")
	long := strings.Repeat("x", 2000)
	const rounds = 100
	for i := range rounds { // far more than the sockets hold
		began := time.Now()
		for range 100 {
			o.Journal.Add(event.Event{Severity: event.Info, Type: event.Refused, Text: long})
		}
		if d := time.Since(began); d > time.Second {
			t.Fatalf("round %d took %s", i, d)
		}
		for range 100 {
			reader.event()
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := io.Copy(io.Discard, conn)
	if err != nil && strings.Contains(err.Error(), "timeout") {
		t.Fatalf("still open after %d bytes: %v", n, err)
	}
	if n > rounds*100*2000/2 {
		t.Errorf("%d bytes were sent", n)
	}
}

func TestStreamsEndWithTheServer(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Server) error{
		"retire":   func(s *Server) error { s.Retire(); return nil },
		"shutdown": func(s *Server) error { return s.Shutdown(context.Background()) },
		"close":    (*Server).Close,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := Listen("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s, done := New(wellOptions(t)), make(chan error, 1)
			go func() { done <- s.Serve(ln) }() // ends with Close
			v := view(t, ln.Addr().String(), "/api/v1/status")
			v.next()
			began := time.Now()
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			for v.next().name != "" {
			}
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("it took %s", d)
			}
			_ = s.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// Promise (security): a page of another origin cannot read the events, and an EventSource
// of it opens no stream.
func TestEventSourceOfAnotherOriginIsRefused(t *testing.T) {
	t.Parallel()
	at := serve(t, wellOptions(t), "")
	for _, path := range []string{"/api/v1/events", "/api/v1/status"} {
		for name, fields := range map[string][]string{
			"origin":   {"Origin: http://evil.example"},
			"port":     {"Origin: http://127.0.0.1:1"},
			"fetch":    {"Sec-Fetch-Site: cross-site"},
			"samesite": {"Sec-Fetch-Site: same-site"},
			"null":     {"Origin: null"},
			"host":     {"Host: evil.example"},
		} {
			r := get(t, at, path, append(fields, "Accept: text/event-stream")...)
			if r.status < 400 || strings.Contains(r.body, "data:") {
				t.Errorf("%s %s: %d %s", path, name, r.status, r.body)
			}
		}
	}
}

func TestStreamsNeedTheTokenWhereOthersDo(t *testing.T) {
	t.Parallel()
	o := wellOptions(t)
	o.Journal = newJournal()
	o.Journal.Add(lostEvent("okx"))
	o.Settings = func() config.Admin { return config.Admin{Local: "token", Token: config.NewSecret("CANARY-token")} }
	at := serve(t, o, "")
	if r := get(t, at, "/api/v1/events", "Accept: text/event-stream"); r.status != http.StatusUnauthorized {
		t.Fatal(r.status)
	}
	if v := view(t, at, "/api/v1/events", "Authorization", "Bearer CANARY-token"); v.resp.StatusCode != http.StatusOK {
		t.Fatal(v.resp.Status)
	}
	// The command answers the challenge instead.
	seen := errors.New("seen")
	follow := func(token string) error {
		return NewClient(at, config.NewSecret(token)).Follow(context.Background(), url.Values{"since": {"1h"}}, func(m Message) error {
			if m.Name == "event" && strings.Contains(string(m.Data), "okx") {
				return seen
			}
			return nil
		})
	}
	if err := follow("CANARY-token"); !errors.Is(err, seen) {
		t.Errorf("with the token: %v", err)
	}
	var refused *RefusedError
	if err := follow("another"); !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		t.Errorf("with another token: %v", err)
	}
}

// The bounds of streams are those that docs/api.md names.
func TestBoundsOfStreamsAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("At most %d streams are open at once", maxStreams),
		fmt.Sprintf("Each %.0f s there is a sign of life", commentTime.Seconds()),
		fmt.Sprintf("longer than %.0f s for one write", streamWrite.Seconds()),
		fmt.Sprintf("acknowledges nothing for %.0f s", deadViewer.Seconds()),
	} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("docs/api.md does not say %q", want)
		}
	}
}
