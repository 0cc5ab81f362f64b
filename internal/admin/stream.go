package admin

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"proxyd/internal/event"
)

// Server-sent events (HTML, section 9.2): /api/v1/events, and /api/v1/status for
// viewers that want the status as it changes.

const (
	maxStreams  = 16
	streamWrite = 5 * time.Second  // a viewer may take so long for one write
	commentTime = 15 * time.Second // between two signs of life
	deadViewer  = 20 * time.Second // after which one that acknowledges nothing is closed
	reconnect   = time.Second      // after which a viewer is to come back
)

// streams bounds the streams, and ends them. It is safe for concurrent use.
type streams struct {
	slots   chan struct{}
	alive   time.Duration // between two signs of life
	dead    time.Duration // without an acknowledgement of the viewer's machine
	stopped chan struct{}
	once    sync.Once
	latest  latestStatus
}

// newStreams leaves room for other requests where conns, the limit of connections,
// is low.
func newStreams(conns int) *streams {
	return &streams{slots: make(chan struct{}, max(1, min(maxStreams, conns/2))), alive: commentTime, dead: deadViewer, stopped: make(chan struct{})}
}

// stop ends all streams, and those that begin later at once.
func (s *streams) stop() { s.once.Do(func() { close(s.stopped) }) }

// wantsStream reports whether a request asks for server-sent events.
func wantsStream(r *http.Request) bool {
	for _, field := range r.Header.Values("Accept") {
		for kind := range strings.SplitSeq(field, ",") {
			if kind, _, _ = strings.Cut(kind, ";"); strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// stream is an answer of server-sent events. It is for one goroutine.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
	r  *http.Request
	s  *streams
}

// open begins a stream and lets run send it. Where there are too many already it
// answers 503.
func (s *streams) open(w http.ResponseWriter, r *http.Request, run func(st *stream) error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		(&refusal{
			status: http.StatusServiceUnavailable, text: fmt.Sprintf("%d streams are open already; close one, or ask again later", cap(s.slots)),
			header: [2]string{"Retry-After", "5"},
		}).write(w, r)
		return
	}
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		giveUpAfter(conn, s.dead)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for an nginx in front
	w.Header().Set("Connection", "close")     // a viewer that is too slow must see an end
	st := &stream{w, http.NewResponseController(w), r, s}
	defer st.deadline() // of what net/http writes at the end
	if r.Method != http.MethodHead {
		_ = run(st) // ends because the viewer or the server does
	}
}

// deadline limits the next write, in place of the server's limit for an answer.
func (st *stream) deadline() { _ = st.rc.SetWriteDeadline(time.Now().Add(streamWrite)) }

// write sends text now.
func (st *stream) write(text string) error {
	st.deadline()
	if _, err := st.w.Write([]byte(text)); err != nil {
		return err
	}
	return st.rc.Flush()
}

// send sends one event; id may be "".
func (st *stream) send(name, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return st.write(frame(name, id, data))
}

// frame returns an event as it goes over the wire. data has no line break.
func frame(name, id string, data []byte) string {
	if id != "" {
		id = "id: " + id + "\n"
	}
	return id + "event: " + name + "\ndata: " + string(data) + "\n\n"
}

// follow sends what the journal has from q on, and status at once and at the
// beginning of each half second if it is not nil. It returns when the viewer or the server ends.
func (st *stream) follow(j *event.Journal, q event.Query, status func() (string, error)) error {
	f, gap := j.Follow(q)
	defer f.Close()
	upTo := f.After() // sent at once, so that a viewer that comes back before the first event misses none
	if err := st.write(fmt.Sprintf("retry: %d\nid: %s\n\n", reconnect.Milliseconds(), upTo)); err != nil {
		return err
	}
	if gap != nil {
		if err := st.send("gap", "", gap); err != nil {
			return err
		}
	}
	var tick <-chan time.Time // nil: never
	if status != nil {
		tick = nextStatus()
		if err := st.sendStatus(status); err != nil {
			return err
		}
	}
	alive := time.NewTicker(st.s.alive)
	defer alive.Stop()
	for {
		select {
		case <-st.r.Context().Done():
			return st.r.Context().Err()
		case <-st.s.stopped:
			return http.ErrServerClosed
		case <-f.News():
			events, to, err := f.Next()
			if err != nil {
				return err
			}
			if err := st.sendEvents(events); err != nil {
				return err
			}
			upTo = to
		case <-tick:
			tick = nextStatus()
			if err := st.sendStatus(status); err != nil {
				return err
			}
		case <-alive.C: // the ID without data: where the viewer has to go on
			if err := st.write(": still here\nid: " + upTo + "\n\n"); err != nil {
				return err
			}
		}
	}
}

func (st *stream) sendEvents(events []event.Event) error {
	for _, e := range events {
		if err := st.send("event", e.ID, e); err != nil {
			return err
		}
	}
	return nil
}

func (st *stream) sendStatus(status func() (string, error)) error {
	text, err := status()
	if err != nil {
		return err
	}
	return st.write(text)
}

// statusEvery is how often a viewer gets the status: a new tunnel must be on its
// page within a second, its delivery included.
const statusEvery = time.Second / 2

// nextStatus returns a channel that receives when the clock's next half second begins:
// at the same time for all viewers, which share the status.
func nextStatus() <-chan time.Time {
	now := time.Now()
	return time.After(now.Truncate(statusEvery).Add(statusEvery).Sub(now))
}

// latestStatus is the last status that a stream has sent, for all viewers.
type latestStatus struct {
	mu   sync.Mutex
	at   time.Time // the beginning of its half second
	text string
}

// frame returns the status of this half second as an event.
func (l *latestStatus) frame(status func() Status) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now().Truncate(statusEvery); !now.Equal(l.at) {
		data, err := json.Marshal(status().filled())
		if err != nil {
			return "", err
		}
		l.at, l.text = now, frame("status", "", data)
	}
	return l.text, nil
}
