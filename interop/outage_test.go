//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// What becomes of a feed whose upstreams cut every tunnel, and refuse for a while.
const (
	goesOn = "goes on by itself"
	hangs  = "hangs"
	ends   = "ends"
)

const (
	feedStart   = 2 * time.Minute // for all of them at once
	outageTime  = 10 * time.Second
	afterOutage = 45 * time.Second // the longest delay between attempts is below it
)

// feed is a running program that prints a line for each message.
type feed struct {
	*ended
	client *client
	done   chan struct{} // closed when it has ended
	before int           // lines when the outage ends
}

func (f *feed) lines() int { return strings.Count(f.stdout.String(), "\n") }

func (f *feed) gone() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// outage runs the feeds of these clients through an outage in mid-feed. Those that
// wait for something when the time is over get a second attempt, as in run.
func (w *network) outage(t *testing.T, ids []string) []outcome {
	t.Helper()
	list := w.attemptOutage(t, ids)
	var late []string
	for _, o := range list {
		if o.Late {
			late = append(late, o.Cell.Client)
		}
	}
	if late == nil {
		return list
	}
	for _, second := range w.attemptOutage(t, late) {
		i := slices.IndexFunc(list, func(o outcome) bool { return o.Cell == second.Cell })
		second.Again = list[i].Outcome + ": " + list[i].Error
		list[i] = second
	}
	return list
}

func (w *network) attemptOutage(t *testing.T, ids []string) (list []outcome) {
	t.Helper()
	w.start(t, "well")
	w.detector.taken(t)
	ctx, cancel := context.WithCancel(t.Context())
	var feeds []*feed
	defer func() {
		cancel()
		for _, f := range feeds {
			<-f.done
		}
	}()
	for _, id := range ids {
		feeds = append(feeds, w.startFeed(ctx, t, w.clients[id]))
	}
	waitFor(feedStart, feeds, func(f *feed) bool { return f.lines() >= 3 })
	for _, f := range feeds {
		if f.lines() < 3 {
			f.before = -1
		}
	}
	opened := len(w.stream.Asked())
	for _, p := range []*testkit.Proxy{w.rest, w.stream} {
		p.SetFault(testkit.On(testkit.AtAccept, testkit.Reset))
		p.ResetAll()
	}
	time.Sleep(outageTime) // the length of the outage, not a wait for something
	for _, f := range feeds {
		if f.before == 0 {
			f.before = f.lines()
		}
	}
	for _, p := range []*testkit.Proxy{w.rest, w.stream} {
		p.SetFault(nil)
	}
	waitFor(afterOutage, feeds, func(f *feed) bool { return f.before < 0 || f.lines() >= f.before+3 })
	leaks := strings.Join(w.detector.taken(t), ", ")
	for _, f := range feeds {
		o := outcome{Cell: cell{Client: f.client.id, Kind: "websocket", Column: "outage"}, Output: f.all(), Lives: f.client.reconnects, Error: f.lastLine(f.client.language)}
		switch {
		case leaks != "":
			o.Outcome = fmt.Sprintf("%s, or another feed: %s", direct, leaks)
		case f.before < 0:
			o.Outcome = fails
		case f.lines() >= f.before+3:
			o.Outcome = goesOn
		case f.gone():
			o.Outcome = ends
		default:
			o.Outcome = hangs
		}
		o.Late = leaks == "" && !f.gone() && o.Outcome != goesOn
		if o.Outcome == goesOn {
			opened++
		}
		list = append(list, o)
	}
	if now := len(w.stream.Asked()); now < opened {
		t.Errorf("%d tunnels in all, want %d: the outage has not cut those of the feeds that go on", now, opened)
	}
	return list
}

// startFeed starts a client's feed, which runs until ctx ends.
func (w *network) startFeed(ctx context.Context, t *testing.T, c *client) *feed {
	t.Helper()
	in := filepath.Join(dir, "feed-"+c.id)
	if err := errors.Join(os.RemoveAll(in), os.MkdirAll(in, 0o700)); err != nil {
		t.Fatal(err)
	}
	argv, variables := c.command(t, "feed", in), w.variables("outage")
	if _, environ := c.program("websocket", "outage"); environ {
		variables = append(variables, w.environ...)
	}
	f := &feed{ended: &ended{}, client: c, done: make(chan struct{})}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = in, variables, &f.stdout, &f.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputTime
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the program, at the latest when ctx does
		f.err = cmd.Wait()
		close(f.done)
	}()
	return f
}

// waitFor waits until every feed has ended or is ready, and not longer than limit.
func waitFor(limit time.Duration, feeds []*feed, ready func(*feed) bool) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		waiting := false
		for _, f := range feeds {
			waiting = waiting || !f.gone() && !ready(f)
		}
		if !waiting {
			return
		}
	}
}
