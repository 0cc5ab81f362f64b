//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// pingEvery is the time between two messages of the mixed workload.
const pingEvery = 4 * time.Millisecond

// mixed measures ping-pong of one byte on one tunnel beside bulk ones: what a
// feed notices of a download. The echo is a process of its own; apart, so is
// the upstream that leads to it, and only the candidate is shared.
func mixed(tunnels int, apart bool) func(endpoints, options) (measurements, error) {
	return func(p endpoints, o options) (measurements, error) {
		quiet := p
		quiet.origin = p.echo
		if apart {
			quiet.proxy = p.second
		}
		if quiet.proxy == "" || p.direct && apart {
			return nil, errors.New("has no second upstream")
		}
		var total atomic.Int64
		var wg sync.WaitGroup
		var conns []net.Conn
		defer func() {
			for _, c := range conns {
				c.Close()
			}
			wg.Wait()
		}()
		for range tunnels {
			c, err := p.connect()
			if err != nil {
				return nil, err
			}
			conns = append(conns, c)
			if _, err := c.Write([]byte{'D'}); err != nil {
				return nil, err
			}
			wg.Go(func() { // ends when the tunnel is closed
				b := make([]byte, 256<<10)
				for {
					n, err := c.Read(b)
					total.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
		}
		c, err := quiet.hello()
		if err != nil {
			return nil, err
		}
		defer c.Close()
		time.Sleep(300 * time.Millisecond)
		cpu, before, start := p.cpu(), total.Load(), time.Now()
		took, err := pings(c, o.time)
		if err != nil {
			return nil, err
		}
		gb := float64(total.Load()-before) / 1e9
		if gb == 0 {
			return nil, fmt.Errorf("nothing arrived")
		}
		return measurements{
			"p50 µs": took[len(took)/2], "p99 µs": took[len(took)*99/100],
			"GB/s": gb / time.Since(start).Seconds(), "CPU s/GB": (p.cpu() - cpu) / gb,
		}, nil
	}
}

// pings sends one byte at a time for d and gives the sorted times until each is
// back. It blocks in system calls, so that the scheduler of this process, which
// is busy with the bulk, is no part of them.
func pings(c net.Conn, d time.Duration) (took []float64, err error) {
	f, err := c.(*net.TCPConn).File() // a copy of the descriptor that blocks
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd := int(f.Fd())
	defer func() { _ = syscall.SetNonblock(fd, true) }() // which the copies share
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 8}); err != nil {
		return nil, err
	}
	b := make([]byte, 1)
	for start := time.Now(); time.Since(start) < d; time.Sleep(pingEvery) {
		t := time.Now()
		if _, err := syscall.Write(fd, b); err != nil {
			return nil, err
		}
		if n, err := syscall.Read(fd, b); err != nil || n == 0 {
			return nil, errors.Join(err, io.ErrUnexpectedEOF)
		}
		took = append(took, float64(time.Since(t).Nanoseconds())/1e3)
	}
	slices.Sort(took)
	return took, nil
}
