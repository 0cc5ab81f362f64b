package admin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"proxyd/internal/event"
)

// Message is one server-sent event: an event of the journal, or what is missing
// before the next one.
type Message struct {
	Name string // "event", "gap" or "status"
	ID   string // of the last event so far
	Data []byte // JSON
}

// Events asks what the journal has. The parameters are those of /api/v1/events; a
// wrong one is a *RefusedError with status 400.
func (c *Client) Events(ctx context.Context, parameters url.Values) (a event.Answer, err error) {
	return a, c.get(ctx, "/api/v1/events?"+parameters.Encode(), &a)
}

// streamSilence is how long a stream may be silent: longer than between two of its
// comments.
const streamSilence = 3 * commentTime

// Follow hands each message to do as it comes, until ctx ends or the daemon ends the
// stream. It always returns an error; a stream that has ended is an
// *UnreachableError.
func (c *Client) Follow(ctx context.Context, parameters url.Values, do func(Message) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := time.AfterFunc(streamSilence, cancel)
	defer silent.Stop()
	resp, err := c.askFor(ctx, http.MethodGet, "/api/v1/events?"+parameters.Encode(), "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var m Message
	for lines.Scan() {
		silent.Reset(streamSilence)
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case lines.Text() == "" && m.Name != "":
			if err := do(m); err != nil {
				return err
			}
			m.Name, m.Data = "", nil
		case lines.Text() == "" && m.ID != "": // where the stream is, without an event
			if err := do(Message{ID: m.ID}); err != nil {
				return err
			}
		case name == "id":
			m.ID = value
		case name == "event":
			m.Name = value
		case name == "data":
			m.Data = []byte(value)
		}
	}
	err = lines.Err()
	switch {
	case err == nil:
		err = io.EOF
	case ctx.Err() != nil:
		err = errors.New("nothing has come for too long")
	}
	return &UnreachableError{Address: c.address, Err: err}
}
