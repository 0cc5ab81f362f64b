package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"proxyd/internal/admin"
	"proxyd/internal/event"
	"proxyd/internal/printable"
)

func eventsCommand() *cobra.Command {
	var follow bool
	var format string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what has happened to feeds, upstreams and the daemon",
		Long: `Show the events that the running daemon remembers, the oldest first: what was lost,
refused, ejected, changed, and what to do. Without --since, the latest 1000.

On a terminal the lines are wrapped, with what to do below; else each event is one
line, for scripts.

--follow goes on with what happens; without --since it begins with the next event.
It connects again when the daemon is upgraded or started again, and says so if
events are missing. Exit code 0, 1 if the daemon cannot be reached, 2 for a wrong
call.`,
		Example: `  proxyd events --since 1h --severity warn
  proxyd events --exchange binance_futures
  proxyd events --follow --format json | jq -r .text`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			parameters, err := eventParameters(cmd)
			if err != nil {
				return err
			}
			client, err := adminClient(cmd)
			if err != nil {
				return err
			}
			l := &eventLog{client: client, parameters: parameters, out: cmd.OutOrStdout(), errOut: cmd.ErrOrStderr(), json: format == "json"}
			file, _ := l.out.(*os.File)
			if file != nil && terminal(file) {
				l.colour = os.Getenv("NO_COLOR") == ""
				l.width, _ = terminalSize(file)
			}
			return exitError(l.run(cmd, follow))
		},
	}
	f := cmd.Flags()
	f.BoolVar(&follow, "follow", false, "go on with what happens, until interrupted")
	f.String("since", "", "begin at a `TIME`: 1h back from now, an RFC 3339 time, or an event's id")
	f.String("exchange", "", "only events of the exchange `ID`")
	f.String("kind", "", "only events of a `KIND`: http or websocket")
	f.String("upstream", "", "only events of the upstream `NAME`")
	f.String("severity", "", "only events that matter at least as much: `LEVEL` info, warn or error")
	f.StringSlice("type", nil, "only events of a `TYPE`, such as exchange_lost; may be repeated")
	f.StringVar(&format, "format", "text", "`FORMAT`: text, or json with an object a line")
	addAdminFlag(cmd)
	return cmd
}

// eventParameters returns the flags as the daemon takes them. An empty value is an
// error: an unset variable must not widen what is meant.
func eventParameters(cmd *cobra.Command) (url.Values, error) {
	parameters := url.Values{}
	for _, name := range []string{"since", "exchange", "kind", "upstream", "severity"} {
		switch flag := cmd.Flags().Lookup(name); {
		case flag.Changed && flag.Value.String() == "":
			return nil, usageError{fmt.Errorf("--%s is empty; give it a value, or leave it out", name)}
		case flag.Changed:
			parameters.Set(name, flag.Value.String())
		}
	}
	types, _ := cmd.Flags().GetStringSlice("type")
	if cmd.Flags().Changed("type") && strings.Join(types, "") == "" {
		return nil, usageError{errors.New("--type is empty; give it a value, or leave it out")}
	}
	for _, t := range types {
		parameters.Add("type", t)
	}
	return parameters, nil
}

// eventLog prints events.
type eventLog struct {
	client       *admin.Client
	parameters   url.Values
	out, errOut  io.Writer
	json, colour bool
	width        int // of the terminal, 0 if it is none
}

// run prints what the daemon remembers and, with follow, goes on.
func (l *eventLog) run(cmd *cobra.Command, follow bool) error {
	wanted := l.parameters.Has("since")
	if follow && !wanted {
		l.parameters.Set("limit", "1") // only to know where the journal is
	}
	for {
		ctx, cancel := withTimeout(cmd, requestTimeout)
		a, err := l.client.Events(ctx, l.parameters)
		cancel()
		if err != nil {
			return err
		}
		if !follow || wanted {
			if err := l.page(a); err != nil {
				return err
			}
		}
		l.parameters.Set("since", a.Next)
		switch {
		case follow:
			l.parameters.Del("limit")
			return l.follow(cmd.Context()) // the rest comes there
		case !wanted || len(a.Events) == 0:
			return nil
		}
	}
}

// page prints one answer.
func (l *eventLog) page(a event.Answer) error {
	if a.Gap != nil {
		if err := l.gap(*a.Gap); err != nil {
			return err
		}
	} else if _, isID := event.ParseID(l.parameters.Get("since")); !isID && !l.json {
		fmt.Fprintf(l.errOut, "proxyd remembers what has happened since %s\n", a.RemembersSince.Local().Format(time.DateTime))
	}
	for _, e := range a.Events {
		if err := l.print(e); err != nil {
			return err
		}
	}
	return nil
}

// Between two attempts to connect again.
const (
	againFirst = 200 * time.Millisecond
	againMost  = 5 * time.Second
)

// follow prints events as they happen until ctx ends. It connects again when the
// stream ends: the daemon may be replaced.
func (l *eventLog) follow(ctx context.Context) error {
	pause, down := againFirst, false
	for {
		err := l.client.Follow(ctx, l.parameters, func(m admin.Message) error {
			if down {
				fmt.Fprintln(l.errOut, "proxyd answers again")
			}
			pause, down = againFirst, false
			l.parameters.Set("since", m.ID)
			return l.message(m)
		})
		if ctx.Err() != nil {
			return nil
		}
		var unreachable *admin.UnreachableError
		var refused *admin.RefusedError
		switch {
		case errors.As(err, &refused) && refused.Status == 503: // too many streams
		case !errors.As(err, &unreachable):
			return err
		}
		if pause == againMost && !down {
			down = true
			fmt.Fprintf(l.errOut, "proxyd: %v; trying again\n", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, againMost)
	}
}

func (l *eventLog) message(m admin.Message) error {
	switch m.Name {
	case "event":
		var e event.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return fmt.Errorf("an event that cannot be read: %w", err)
		}
		return l.print(e)
	case "gap":
		var g event.Gap
		if err := json.Unmarshal(m.Data, &g); err != nil {
			return fmt.Errorf("a gap that cannot be read: %w", err)
		}
		return l.gap(g)
	}
	return nil
}

// gap prints what is missing; as an event where programs read.
func (l *eventLog) gap(g event.Gap) error {
	text := g.Text + "; proxyd remembers what has happened since " + g.RemembersSince.Local().Format(time.DateTime)
	return l.print(event.Event{Time: time.Now(), Severity: event.Warn, Type: "gap", Text: text})
}

// print prints one event.
func (l *eventLog) print(e event.Event) error {
	if l.json {
		return json.NewEncoder(l.out).Encode(e)
	}
	v := layout{width: l.width, colour: l.colour}
	if l.width < minEventWidth { // a line each
		line := fmt.Sprintf("%s  %-5s  %s", e.Time.Local().Format(time.DateTime), e.Severity, eventWords(e))
		if e.Hint != "" {
			line += " (" + e.Hint + ")"
		}
		v.line(v.paint(severityColours[e.Severity], line))
	} else {
		head := fmt.Sprintf("%s  %-5s  ", printable.Clock(e.Time, time.Now()), e.Severity)
		v.wrappedIn(severityColours[e.Severity], head, eventWords(e))
		if e.Hint != "" {
			v.wrappedIn(grey, strings.Repeat(" ", len(head)), e.Hint)
		}
	}
	_, err := io.WriteString(l.out, v.String())
	return err
}

// minEventWidth is the width of the narrowest terminal on which events are wrapped.
const minEventWidth = 60

var severityColours = map[event.Severity]string{event.Warn: yellow, event.Error: red}

// eventWords returns what happened, with what it is about where the text does not say.
func eventWords(e event.Event) string {
	about := e.Exchange
	if about != "" && e.Kind != "" {
		about += " " + e.Kind
	}
	if strings.Contains(e.Text, about) {
		about = ""
	}
	if e.Type == event.ExchangeLost {
		about += " lost"
	}
	if e.Upstream != "" && !strings.Contains(e.Text, e.Upstream) {
		about += " through " + e.Upstream
	}
	if about = strings.TrimSpace(about); about != "" {
		return about + ": " + e.Text
	}
	return e.Text
}
