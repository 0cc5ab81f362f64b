package relay_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"proxyd/internal/relay"
)

// TestManyShortFlows: 240 at once through one engine, of all kinds, with random
// lengths and whoever ends first. In one of four a side resets somewhere on the
// way. Every byte that arrives is right, and counted.
func TestManyShortFlows(t *testing.T) {
	t.Parallel()
	e := running(t, patience)
	var flows sync.WaitGroup
	for i := range 240 {
		w := join(t, e, allKinds[i%4], nil, nil, relay.Options{})
		flows.Go(func() {
			if err := short(t, w, uint64(i)); err != nil {
				t.Errorf("flow %d, %v: %v", i, allKinds[i%4], err)
			}
		})
	}
	flows.Wait()
}

// short runs one flow, and checks what arrives and Stats.
func short(t *testing.T, w *wire, seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 7))
	up, down := rnd.IntN(60_000), rnd.IntN(60_000)
	resets := seed/4%4 == 0
	var got [2]int
	var errs [4]error
	var sides sync.WaitGroup
	sides.Go(func() { errs[0] = sendAll(w.client, seed, up, resets) })
	sides.Go(func() { errs[1] = sendAll(w.server, seed+1000, down, false) })
	sides.Go(func() { got[0], errs[2] = check(w.server, bytesOf(seed), rand.New(rand.NewPCG(seed, 8))) })
	sides.Go(func() { got[1], errs[3] = check(w.client, bytesOf(seed+1000), rand.New(rand.NewPCG(seed, 9))) })
	sides.Wait()
	s := w.end(t)
	if !resets {
		if got != [2]int{up, down} || s.Up != int64(up) || s.Down != int64(down) || s.Reason != relay.ReasonEOF {
			return fmt.Errorf("%d up and %d down arrive of %d and %d; %+v; %w", got[0], got[1], up, down, s, errors.Join(errs[:]...))
		}
		return errors.Join(errs[:]...)
	}
	if errors.Is(errs[2], errWrong) || errors.Is(errs[3], errWrong) {
		return errors.Join(errs[:]...)
	}
	seen := errors.Join(errs[1], errs[2])                                                                                             // the kernel gives the error to one of them, write or read
	first := s.ClosedBy == relay.Client && s.Reason == relay.ReasonReset || s.ClosedBy == relay.Server && s.Reason == relay.ReasonEOF // it had sent all of its bytes before
	if !first || seen == nil || int64(got[0]) > s.Up || int64(got[1]) > s.Down {
		return fmt.Errorf("%d up and %d down arrive; %+v; the server sees %w", got[0], got[1], s, seen)
	}
	return nil
}

// sendAll sends n bytes and then ends, in order or with a reset.
func sendAll(c conn, seed uint64, n int, resets bool) error {
	me := &talker{conn: c, rand: rand.New(rand.NewPCG(seed, 1))}
	err := me.send(bytesOf(seed), n)
	if resets {
		reset(c)
		return err
	}
	return errors.Join(err, c.CloseWrite())
}
