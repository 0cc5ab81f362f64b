//go:build unix

package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// die ends this process as a crash does.
func die() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// taker is a child that takes over, with what hold does in between.
func taker(hold func(p *Parent, items []Item) (func(), error)) func() error {
	return func() error {
		p, err := ready("words/1")
		if err == nil {
			err = p.Serving()
		}
		if err != nil {
			return err
		}
		_, err = p.Receive(func(items []Item) (func(), error) { return hold(p, items) })
		speaking.Wait()
		if err == nil || errors.Is(err, ErrParentGone) {
			return nil
		}
		return err
	}
}

// speak says the item's word over all its conns, as their owner would.
func speak(items []Item, word string) {
	for _, i := range items {
		for _, c := range i.Conns {
			speaking.Go(func() { // ends when the far end has read it or is closed
				_, _ = fmt.Fprintf(c, "%s %s", word, i.Data)
				_ = c.Close()
			})
		}
	}
}

// speaking counts what a child has still to say.
var speaking sync.WaitGroup

var _ = add("takes", taker(func(_ *Parent, items []Item) (func(), error) {
	for _, i := range items {
		for _, c := range i.Conns {
			if err := inOrder(c); err != nil {
				return nil, err
			}
		}
	}
	return func() { speak(items, "child") }, nil
}))
var _ = add("dies before held", taker(func(*Parent, []Item) (func(), error) { die(); return nil, nil }))
var _ = add("hangs before held", taker(func(*Parent, []Item) (func(), error) { return nil, hang() }))
var _ = add("closes before held", taker(func(p *Parent, _ []Item) (func(), error) {
	return nil, p.conn.Close()
}))
var _ = add("refuses", taker(func(*Parent, []Item) (func(), error) { return nil, errors.New("no room") }))
var _ = add("is slow to hold", taker(func(_ *Parent, items []Item) (func(), error) {
	time.Sleep(time.Second)
	return func() { speak(items, "child") }, nil
}))
var _ = add("says held twice", taker(func(p *Parent, items []Item) (func(), error) {
	return func() { speak(items, "child") }, p.send(message{Type: "held", Batch: 7}, nil, nil)
}))
var _ = add("dies after the commit", taker(func(*Parent, []Item) (func(), error) { return die, nil }))
var _ = add("has few files", func() error {
	limit := syscall.Rlimit{Cur: 40, Max: 40}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	return parts["takes"]()
})

// inOrder looks at a conn that has arrived.
func inOrder(c *net.TCPConn) (err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	e := raw.Control(func(fd uintptr) {
		for what, call := range map[string]struct{ get, bit, want uintptr }{
			"close on exec": {syscall.F_GETFD, syscall.FD_CLOEXEC, syscall.FD_CLOEXEC},
			"non-blocking":  {syscall.F_GETFL, syscall.O_NONBLOCK, syscall.O_NONBLOCK},
		} {
			if got, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, call.get, 0); errno != 0 || got&call.bit != call.want {
				err = errors.Join(err, fmt.Errorf("not %s", what))
			}
		}
	})
	return errors.Join(e, err, isKeptAlive(c))
}

// goods are items with two conns each, and the far ends of those.
func goods(t testing.TB, n int) (items []Item, far []net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for i := range n {
		item := Item{Data: fmt.Append(nil, "item ", i)}
		for range 2 {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			f, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = c.Close(), f.Close() })
			item.Conns, far = append(item.Conns, c.(*net.TCPConn)), append(far, f)
		}
		items = append(items, item)
	}
	return items, far
}

// successor starts a child that takes over, and lets it.
func successor(t testing.TB, play string, step time.Duration) *Child {
	t.Helper()
	c := upgrade(t, new(Upgrader), play, StartOptions{Step: step})
	if err := c.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	c.serves = testkit.Patience
	if err := c.Go(nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// whole reads until the end, which comes when no process has the far side open.
func whole(t testing.TB, c net.Conn) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	said, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, and then %v", said, err)
	}
	return string(said)
}

// Whatever happens before the commit: what is here is all of it and works, and
// the other process keeps no copy.
func TestParentKeepsItemsBeforeCommit(t *testing.T) {
	t.Parallel()
	for play, c := range map[string]struct {
		step    time.Duration
		items   int
		want    string
		refused bool
	}{
		"dies before held":   {0, 3, "EOF", false},
		"hangs before held":  {200 * time.Millisecond, 3, "timeout", false},
		"closes before held": {0, 3, "EOF", false},
		"is slow to hold":    {200 * time.Millisecond, 3, "timeout", false},
		"says held twice":    {0, 3, "to batch 7", false},
		"refuses":            {0, 3, "no room", true},
		"has few files":      {0, 50, "raise the limit of open files", true},
	} {
		t.Run(play, func(t *testing.T) {
			t.Parallel()
			child := successor(t, play, c.step)
			items, far := goods(t, c.items)
			moved, err := child.Move(items)
			mustHave(t, err, c.want)
			if moved != 0 || errors.Is(err, ErrRefused) != c.refused {
				t.Errorf("%d moved, %v; want 0, refused %v", moved, err, c.refused)
			}
			if play == "hangs before held" {
				child.Kill() // its copies keep the far ends from seeing the end
			}
			speak(items, "parent")
			for i, f := range far {
				if got, want := whole(t, f), fmt.Sprintf("parent item %d", i/2); got != want {
					t.Fatalf("far end %d got %q, want %q", i, got, want)
				}
			}
		})
	}
}

// A child that has ended after its word and before the commit has not got it.
func TestParentKeepsItemsWhenCommitFails(t *testing.T) {
	t.Parallel()
	child := successor(t, "dies before held", 0)
	items, _ := goods(t, 1)
	child.setTimeout(testkit.Patience)
	if err := child.send(message{Type: "batch", Batch: 1, Items: []sizes{{0, 2}}}, nil, items[0].Conns); err != nil {
		t.Fatal(err)
	}
	select {
	case <-child.exited:
	case <-time.After(testkit.Patience):
		t.Fatal("it lives on")
	}
	if err := child.send(message{Type: "commit", Batch: 1}, nil, nil); err == nil {
		t.Error("it was written although no process was there")
	}
}

func TestChildOwnsItemsAfterCommit(t *testing.T) {
	t.Parallel()
	for play, want := range map[string]string{"takes": "child item 0", "dies after the commit": ""} {
		t.Run(play, func(t *testing.T) {
			t.Parallel()
			child := successor(t, play, 0)
			items, far := goods(t, 1)
			if moved, err := child.Move(items); moved != 1 || err != nil {
				t.Fatal(moved, err)
			}
			closeConns(items[0].Conns)
			if got := whole(t, far[0]); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if play == "takes" {
				if err := child.Finish([]byte("bye")); err != nil {
					t.Error(err)
				}
				select {
				case <-child.exited:
				case <-time.After(testkit.Patience):
					t.Error("it lives on")
				}
			}
		})
	}
}

// More than one message holds goes in several, each of which is committed.
func TestMoveSplitsManyItemsIntoBatches(t *testing.T) {
	t.Parallel()
	child := successor(t, "takes", testkit.Patience)
	items, far := goods(t, 300)
	items[7].Data = []byte(strings.Repeat("much ", 1<<20))
	if moved, err := child.Move(items); moved != len(items) || err != nil {
		t.Fatal(moved, err)
	}
	if child.batches < 4 {
		t.Errorf("%d batches", child.batches)
	}
	for _, i := range items {
		closeConns(i.Conns)
	}
	for i, f := range far {
		if i/2 == 7 { // what is written there waits for a reader
			continue
		}
		if got, want := whole(t, f), fmt.Sprintf("child item %d", i/2); got != want {
			t.Fatalf("far end %d got %q, want %q", i, got, want)
		}
	}
	for _, f := range far[14:16] {
		if got := whole(t, f); len(got) != len("child ")+5<<20 {
			t.Errorf("the big one: %d bytes", len(got))
		}
	}
	_ = child.Finish(nil)
}
