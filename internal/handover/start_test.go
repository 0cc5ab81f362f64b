//go:build unix

package handover

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

var _ = add("exits", func() error { os.Exit(3); return nil })
var _ = add("hangs", hang)
var _ = add("says no", func() error {
	p, err := Inherited(ourKeepAlive)
	if err == nil {
		p.Failed(errors.New("proxyd.yaml:3:5: exchanges.okx: no such pool"))
	}
	return err
})
var _ = add("says no and stays", func() error {
	p, err := Inherited(ourKeepAlive)
	if err == nil {
		p.Failed(errors.New("no memory"))
		return hang()
	}
	return err
})
var _ = add("talks nonsense", func() error {
	p, err := Inherited(ourKeepAlive)
	if err == nil {
		_, err = p.conn.Write(bytes.Repeat([]byte("x"), 100))
	}
	return errors.Join(err, hang())
})
var _ = add("another word", func() error {
	p, err := Inherited(ourKeepAlive)
	if err == nil {
		err = p.send(message{Type: "serving"}, nil, nil)
	}
	return errors.Join(err, hang())
})
var _ = add("closes", func() error {
	p, err := Inherited(ourKeepAlive)
	if err == nil {
		err = p.conn.Close()
	}
	return errors.Join(err, hang())
})

// Whatever the new process does, the old one goes on, and the new one is no more.
func TestUnreadyChildIsKilled(t *testing.T) {
	t.Parallel()
	for play, want := range map[string][]string{
		"exits":             {"ended before it served", "exit status 3", "log above"},
		"says no":           {"cannot start", "proxyd.yaml:3:5: exchanges.okx: no such pool"},
		"says no and stays": {"cannot start", "no memory"},
		"hangs":             {"was stopped", "not ready in time"},
		"talks nonsense":    {"was stopped"},
		"another word":      {"was stopped", `"serving"`},
		"closes":            {"was stopped", "EOF"},
	} {
		t.Run(play, func(t *testing.T) {
			t.Parallel()
			var u Upgrader
			ln := listening(t)
			c := upgrade(t, &u, play, StartOptions{Listeners: []Listener{ln}})
			ctx := soon(t)
			if play == "hangs" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			mustHave(t, c.Ready(ctx), want...)
			if !isGone(c.PID) {
				t.Error("it lives, or was not reaped")
			}
			if who(t, ln.Addr()) != strconv.Itoa(os.Getpid()) {
				t.Error("this process does not go on")
			}
			again := upgrade(t, &u, "answers", StartOptions{Listeners: []Listener{ln}})
			if err := again.Ready(soon(t)); err != nil {
				t.Errorf("the next upgrade: %v", err)
			}
		})
	}
}

var _ = add("answers", func() error {
	p, err := ready("words/1")
	if err != nil {
		return err
	}
	go answer(p.Listeners.Take("main"))
	if err := p.Serving(); err != nil {
		return err
	}
	_, _ = p.Receive(func([]Item) (func(), error) { return nil, errors.New("not asked for") })
	return hang()
})
var _ = add("dies at go", func() error { _, err := ready(); return err })
var _ = add("hangs at go", func() error { _, err := ready(); return errors.Join(err, hang()) })

func TestChildThatDoesNotServeIsKilled(t *testing.T) {
	t.Parallel()
	for play, c := range map[string]struct {
		step time.Duration
		want string
	}{
		"dies at go":  {0, "ended before it served"},
		"hangs at go": {300 * time.Millisecond, "was stopped"},
	} {
		t.Run(play, func(t *testing.T) {
			t.Parallel()
			var u Upgrader
			ln := listening(t)
			want := c.want
			c := upgrade(t, &u, play, StartOptions{Listeners: []Listener{ln}, Step: c.step})
			if err := c.Ready(soon(t)); err != nil {
				t.Fatal(err)
			}
			mustHave(t, c.Go([]byte("state")), want)
			if !isGone(c.PID) || who(t, ln.Addr()) != strconv.Itoa(os.Getpid()) {
				t.Error("it lives, or this process does not go on")
			}
		})
	}
}

func TestOneUpgradeAtATime(t *testing.T) {
	t.Parallel()
	var u Upgrader
	ln := listening(t)
	o := StartOptions{Path: os.Args[0], Listeners: []Listener{ln}}
	c := upgrade(t, &u, "answers", o)
	refused := func(when string, want error) {
		t.Helper()
		if _, err := u.Start(o); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
	}
	refused("before it is ready", ErrRunning)
	if err := c.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	refused("before it serves", ErrRunning)
	if err := c.Go(nil); err != nil {
		t.Fatal(err)
	}
	refused("while tunnels move", ErrReplaced)
	_ = ln.Listener.Close()
	if got := who(t, ln.Addr()); got != strconv.Itoa(c.PID) {
		t.Errorf("answered by %s, want the child, %d", got, c.PID)
	}
	if !c.Takes("words/1") || c.Takes("words/2") {
		t.Error("the formats are not the child's")
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	refused("when all is over", ErrReplaced)
}

// While the sockets change hands every client is answered, by the one or the other.
func TestNoClientIsRefusedDuringHandover(t *testing.T) {
	t.Parallel()
	ln := listening(t)
	var clients sync.WaitGroup
	over := make(chan struct{})
	answered := make([]map[string]int, 4)
	for i := range answered {
		answered[i] = map[string]int{}
		clients.Go(func() { // ends with over
			for {
				c, err := net.DialTimeout("tcp", ln.Addr().String(), testkit.Patience)
				if err != nil {
					t.Error(err)
					return
				}
				said, err := io.ReadAll(c)
				_ = c.Close()
				if err != nil || len(said) == 0 {
					t.Errorf("%q, %v", said, err)
					return
				}
				answered[i][string(said)]++
				select {
				case <-over:
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	c := upgrade(t, new(Upgrader), "answers", StartOptions{Listeners: []Listener{ln}})
	if err := errors.Join(c.Ready(soon(t)), c.Go(nil), ln.Listener.Close()); err != nil {
		t.Error(err)
	}
	time.Sleep(100 * time.Millisecond) // for clients of the child
	close(over)
	clients.Wait()
	sum := map[string]int{}
	for _, m := range answered {
		for who, n := range m {
			sum[who] += n
		}
	}
	if len(sum) != 2 || sum[strconv.Itoa(c.PID)] == 0 {
		t.Errorf("answered: %v, want by %d and %d", sum, os.Getpid(), c.PID)
	}
}

func TestUpgradeRefusedWhereItEndsContainer(t *testing.T) {
	t.Parallel()
	is := func(name string) func() string { return func() string { return name } }
	for name, c := range map[string]struct {
		pid, parent int
		first       func() string
		refused     string
	}{
		"PID 1":                   {1, 0, is("proxyd"), "PID 1 of its container; replacing it would end the container"},
		"PIDs shared with others": {17, 0, is("pause"), "main one of its container"},
		"below a small init":      {7, 1, is("tini"), "started by tini"},
		"below systemd":           {700, 1, is("systemd"), ""},
		"below a shell":           {700, 650, is("tini"), ""},
	} {
		err := endsContainer(c.pid, c.parent, c.first)
		switch {
		case c.refused == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%s: got %v, want %q", name, err, c.refused)
		}
	}
}
