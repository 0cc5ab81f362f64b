package relay_test

import (
	"fmt"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"proxyd/internal/relay"
)

// waiting is what the kernel holds for the flow's own end of a connection: sent
// to it and not yet read, and written and not yet sent.
func waiting(t *testing.T, c conn) (unread, unsent int) {
	t.Helper()
	if err := control(t, c, func(fd int) (err error) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return err
		}
		unsent = int(info.Notsent_bytes)
		unread, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return unread, unsent
}

// TestStalledReaderHoldsLittle: a tunnel whose reader stands takes little from
// the other side, whatever passed before.
//
// Promise (data path): a client that does not read takes 1 MiB of the kernel's
// memory, one that stops in the middle of bulk tunnel.buffer_bytes on either side.
func TestStalledReaderHoldsLittle(t *testing.T) {
	t.Parallel()
	const buffer = 1 << 20
	for _, k := range allKinds {
		for _, read := range []int64{0, 24 << 20} {
			t.Run(fmt.Sprintf("%v, after %d MiB", k, read>>20), func(t *testing.T) {
				t.Parallel()
				e := relay.NewEngine()
				client, nearClient := pair(t, k.client)
				nearServer, server := pair(t, k.server)
				f := e.Start(nearClient, nearServer, nil, nil, relay.Options{Buffer: buffer})
				t.Cleanup(f.Close)
				go sends(server, func() {}) // ends with the flow
				if _, err := io.CopyN(io.Discard, client, read); err != nil {
					t.Fatal(err)
				}
				standing(t, f)
				unread, _ := waiting(t, nearServer)
				_, unsent := waiting(t, nearClient)
				most := buffer
				if read == 0 { // nothing has let the kernel's buffers grow
					most = 128 << 10
				}
				const more = 128 << 10 // what one write adds to a buffer that is not yet full
				if unsent > most+more || unread > buffer {
					t.Errorf("%d bytes unsent, want %d at most; %d unread, want %d", unsent, most, unread, buffer)
				}
			})
		}
	}
}

// TestRoomEndsWithBulk: what may wait for a reader that has proven itself is
// little again once messages come.
func TestRoomEndsWithBulk(t *testing.T) {
	t.Parallel()
	e := relay.NewEngine()
	client, nearClient := pair(t, "tcp")
	nearServer, server := pair(t, "tcp")
	f := e.Start(nearClient, nearServer, nil, nil, relay.Options{Buffer: 1 << 20})
	t.Cleanup(f.Close)
	for _, size := range []int{32 << 20, 1} {
		go func() { _, _ = server.Write(make([]byte, size)) }() // ends with the flow
		if _, err := io.CopyN(io.Discard, client, int64(size)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "little room", func() bool {
		var room int
		err := control(t, nearClient, func(fd int) (err error) {
			room, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
			return err
		})
		return err == nil && room == 128<<10
	})
}

// TestStalledReaderMemory: proxyd itself holds less than 64 KiB for one.
//
// Promise (data path): a client that does not read takes less than 64 KiB of
// proxyd's own memory.
//
//nolint:paralleltest // it measures this process
func TestStalledReaderMemory(t *testing.T) {
	const n, most = 30, 64 << 10
	e := relay.NewEngine()
	block := make([]byte, 64<<10)
	var flows []*relay.Flow
	before := inUse()
	for range n {
		_, nearClient := pair(t, "tcp")
		nearServer, server := pair(t, "tcp")
		f := e.Start(nearClient, nearServer, nil, nil, relay.Options{})
		t.Cleanup(f.Close)
		flows = append(flows, f)
		go func() { // ends with the flow
			for {
				if _, err := server.Write(block); err != nil {
					return
				}
			}
		}()
	}
	for _, f := range flows {
		standing(t, f)
	}
	if held := (inUse() - before) / n; held > most {
		t.Errorf("%d bytes a flow", held)
	}
}
