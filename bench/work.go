//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// measurements are one measurement's results by name.
type measurements map[string]float64

// endpoints is where a measurement goes: the proxy under test and what is behind.
type endpoints struct {
	proxy, origin, web string
	second             string // where the candidate leads to the second upstream; "" if it cannot
	echo               string // an origin in a process of its own
	log                string // the file that the candidate's output goes to
	pid                int    // of the candidate; 0 when there is none
	direct             bool   // the candidate is asked by SOCKS5 and dials the origin itself
}

// connect opens a tunnel to the origin.
func (p endpoints) connect() (net.Conn, error) {
	switch {
	case !p.direct:
		return connectHTTP(p.proxy, p.origin)
	case p.pid == 0:
		return net.DialTimeout("tcp", p.origin, 5*time.Second)
	default:
		return connectSOCKS5(p.proxy, p.origin)
	}
}

func (p endpoints) cpu() float64 {
	if p.pid == 0 {
		return 0
	}
	return cpuSeconds(p.pid)
}

// drop closes with a reset, so that no local port is left waiting: a run would
// use all of them up.
func drop(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// hello opens a tunnel to the echo and exchanges one byte.
func (p endpoints) hello() (net.Conn, error) {
	c, err := p.connect()
	if err != nil {
		return nil, err
	}
	b := []byte{'E'}
	_ = c.SetDeadline(time.Now().Add(8 * time.Second))
	if _, err = c.Write(b); err == nil {
		_, err = io.ReadFull(c, b)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

// setup: 32 clients open a tunnel, use it for one byte and close it.
func setup(p endpoints, o options) (measurements, error) {
	var n, failed atomic.Int64
	var wg sync.WaitGroup
	start, cpu := time.Now(), p.cpu()
	for range 32 {
		wg.Go(func() {
			for time.Since(start) < o.time && failed.Load() < 50 {
				c, err := p.hello()
				if err != nil {
					failed.Add(1)
					continue
				}
				n.Add(1)
				drop(c)
			}
		})
	}
	wg.Wait()
	done := float64(n.Load())
	if done == 0 {
		return nil, fmt.Errorf("no tunnel opened")
	}
	return measurements{"setups/s": done / time.Since(start).Seconds(), "CPU µs/setup": (p.cpu() - cpu) * 1e6 / done, "failed": float64(failed.Load())}, nil
}

// bulk: some tunnels, as fast as they go.
func bulk(tunnels int) func(endpoints, options) (measurements, error) {
	return func(p endpoints, o options) (measurements, error) {
		var total atomic.Int64
		var wg sync.WaitGroup
		defer wg.Wait()
		start, cpu := time.Now(), p.cpu()
		for range tunnels {
			c, err := p.connect()
			if err == nil {
				_, err = c.Write([]byte{'D'})
			}
			if err != nil {
				return nil, err
			}
			wg.Go(func() { // ends with the time, or the tunnel
				defer c.Close()
				b := make([]byte, 256<<10)
				for time.Since(start) < o.time {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					total.Add(int64(n))
				}
			})
		}
		wg.Wait()
		gb := float64(total.Load()) / 1e9
		if gb == 0 {
			return nil, fmt.Errorf("nothing arrived")
		}
		return measurements{"GB/s": gb / time.Since(start).Seconds(), "CPU s/GB": (p.cpu() - cpu) / gb}, nil
	}
}

// messages: tunnels that carry rate small messages a second together.
func messages(tunnels, rate int) func(endpoints, options) (measurements, error) {
	return func(p endpoints, o options) (measurements, error) {
		var mu sync.Mutex
		var late []float64
		var conns []net.Conn
		var wg sync.WaitGroup
		defer func() {
			for _, c := range conns {
				c.Close()
			}
			wg.Wait()
		}()
		var measuring atomic.Bool
		for range tunnels {
			c, err := p.connect()
			if err != nil {
				return nil, err
			}
			conns = append(conns, c)
			ask := binary.BigEndian.AppendUint64([]byte{'T'}, uint64(int64(tunnels)*int64(time.Second)/int64(rate)))
			if _, err := c.Write(ask); err != nil {
				return nil, err
			}
			wg.Go(func() { // ends when the tunnel is closed
				var msg [messageSize]byte
				var own []float64
				for {
					if _, err := io.ReadFull(c, msg[:]); err != nil {
						break
					}
					if measuring.Load() {
						own = append(own, float64(time.Now().UnixNano()-int64(binary.BigEndian.Uint64(msg[:])))/1e3)
					}
				}
				mu.Lock()
				late = append(late, own...)
				mu.Unlock()
			})
		}
		time.Sleep(300 * time.Millisecond)
		cpu := p.cpu()
		measuring.Store(true)
		time.Sleep(o.time)
		measuring.Store(false)
		used := p.cpu() - cpu
		for _, c := range conns {
			c.Close()
		}
		wg.Wait()
		if len(late) == 0 {
			return nil, fmt.Errorf("no message arrived")
		}
		slices.Sort(late)
		return measurements{"CPU s/M messages": used * 1e6 / float64(len(late)), "p50 µs": late[len(late)/2], "p99 µs": late[len(late)*99/100]}, nil
	}
}

// pingpong: one tunnel, one message at a time.
func pingpong(p endpoints, o options) (measurements, error) {
	c, err := p.hello()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var msg [messageSize]byte
	var took []float64
	for start := time.Now(); time.Since(start) < o.time; {
		t := time.Now()
		if _, err := c.Write(msg[:]); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, msg[:]); err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(t).Nanoseconds())/1e3)
	}
	slices.Sort(took)
	return measurements{"p50 µs": took[len(took)/2], "p99 µs": took[len(took)*99/100]}, nil
}

// helloMany opens many connections with hello, 16 at a time, and returns those
// that did not fail.
func (p endpoints) helloMany(n int) (conns []net.Conn) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				c, err := p.hello()
				if err != nil {
					continue
				}
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return conns
}

// idle: tunnels that have carried a message and then are silent.
func idle(p endpoints, o options) (measurements, error) {
	return idleAt(p, o.idle, o.time)
}

func idleAt(p endpoints, n int, d time.Duration) (measurements, error) {
	if p.pid == 0 {
		return measurements{}, nil
	}
	before := resources(p.pid)
	conns := p.helloMany(n)
	defer func() {
		for _, c := range conns {
			drop(c)
		}
	}()
	time.Sleep(time.Second)
	cpu, start := p.cpu(), time.Now()
	time.Sleep(d)
	used := (p.cpu() - cpu) * 1e3 / time.Since(start).Seconds()
	after := resources(p.pid)
	open := float64(len(conns))
	if open == 0 {
		return nil, fmt.Errorf("no tunnel opened")
	}
	return measurements{
		"KiB/tunnel": (after.rssKiB - before.rssKiB) / open, "fds/tunnel": (after.files - before.files) / open,
		"open": open, "CPU ms/s": used, "MiB before": before.rssKiB / 1024, "MiB with": after.rssKiB / 1024,
	}, nil
}

// get: 16 clients with kept connections fetch 512 bytes in plain HTTP.
func get(p endpoints, o options) (measurements, error) {
	proxy := &url.URL{Scheme: "http", Host: p.proxy}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), MaxIdleConnsPerHost: 16, DisableCompression: true}, Timeout: 8 * time.Second}
	defer client.CloseIdleConnections()
	var n, failed atomic.Int64
	var wg sync.WaitGroup
	start, cpu := time.Now(), p.cpu()
	for range 16 {
		wg.Go(func() {
			for time.Since(start) < o.time && failed.Load() < 50 {
				resp, err := client.Get("http://" + p.web + "/")
				if err != nil || resp.StatusCode != 200 {
					failed.Add(1)
					if err == nil {
						resp.Body.Close()
					}
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				n.Add(1)
			}
		})
	}
	wg.Wait()
	done := float64(n.Load())
	if done == 0 {
		return nil, fmt.Errorf("no request was answered")
	}
	return measurements{"requests/s": done / time.Since(start).Seconds(), "CPU µs/request": (p.cpu() - cpu) * 1e6 / done, "failed": float64(failed.Load())}, nil
}
