//go:build unix

package handover

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"proxyd/internal/testkit"
)

// A parent that starts a child, moves two conns to the test, and dies.
func oldDies(afterCommit bool) func() error {
	return func() error {
		item := Item{Data: []byte("item")}
		for range 2 {
			c, err := net.Dial("tcp", os.Getenv("HANDOVER_TEST_ADDR"))
			if err != nil {
				return err
			}
			item.Conns = append(item.Conns, c.(*net.TCPConn))
		}
		_ = os.Unsetenv(part) // the first of two would count
		c, err := new(Upgrader).Start(StartOptions{Path: os.Args[0], Env: append(os.Environ(), part+"=takes")})
		if err != nil {
			return err
		}
		c.setTimeout(testkit.Patience)
		if _, _, err = c.expect("ready"); err == nil {
			err = c.Go(nil)
		}
		if err != nil {
			return err
		}
		if afterCommit {
			_, err = c.Move([]Item{item})
		} else {
			err = c.send(message{Type: "batch", Batch: 1, Items: []sizes{{4, 2}}}, [][]byte{item.Data}, item.Conns)
			if err == nil {
				_, _, err = c.expect("held")
			}
		}
		if err == nil {
			die()
		}
		return err
	}
}

var _ = add("old one dies before the commit", oldDies(false))
var _ = add("old one dies after the commit", oldDies(true))

func TestChildServesWhenParentDies(t *testing.T) {
	t.Parallel()
	for play, want := range map[string]string{
		"old one dies before the commit": "",
		"old one dies after the commit":  "child item",
	} {
		t.Run(play, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			old := exec.CommandContext(soon(t), os.Args[0])
			old.Env = append(os.Environ(), part+"="+play, "HANDOVER_TEST_ADDR="+ln.Addr().String())
			old.Stderr = os.Stderr
			err = old.Run()
			if status, ok := old.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
				t.Fatalf("it did not come to its death: %v", err)
			}
			for range 2 {
				c, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if got := whole(t, c); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				_ = c.Close()
			}
		})
	}
}
