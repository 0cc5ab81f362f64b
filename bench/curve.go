//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// curveRate is how many messages a second a row of the curve carries, over all
// its tunnels together.
const curveRate = 5000

// curve shows what proxyd costs as the number of its tunnels grows.
func curve(c candidate, back backends, o options) error {
	fmt.Printf("| tunnels | open | CPU µs a message (%d/s in all) | RSS MiB | KiB each | fds each | idle CPU ms/s | reload ms |\n|---|---|---|---|---|---|---|---|\n", curveRate)
	for text := range strings.SplitSeq(o.curve, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-curve %q: %w", text, err)
		}
		row := results{}
		for range o.rounds {
			for _, measure := range []func(endpoints, options) (measurements, error){
				messages(n, curveRate),
				func(p endpoints, o options) (measurements, error) { return idleAt(p, n, o.time) },
				func(p endpoints, _ options) (measurements, error) { return reload(p, n) },
			} {
				f, err := one(c, back, o, measure)
				if err != nil {
					return err
				}
				row.add("", "", f)
			}
		}
		fmt.Printf("| %d |", n)
		for _, name := range []string{"open", "CPU s/M messages", "MiB with", "KiB/tunnel", "fds/tunnel", "CPU ms/s", "reload ms"} {
			fmt.Printf(" %s |", median(row[""][""][name]))
		}
		fmt.Println()
	}
	return nil
}

// reload measures the time from a SIGHUP to the line of the log that reports
// its end, while tunnels are open.
func reload(p endpoints, n int) (measurements, error) {
	conns := p.helloMany(n)
	defer func() {
		for _, c := range conns {
			drop(c)
		}
	}()
	time.Sleep(time.Second) // what set-up has left to do
	const line = `"reloaded`
	before, err := os.ReadFile(p.log)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := syscall.Kill(p.pid, syscall.SIGHUP); err != nil {
		return nil, err
	}
	f, err := os.Open(p.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	news := make([]byte, 64<<10)
	for time.Since(start) < 5*time.Second {
		k, _ := f.ReadAt(news, int64(len(before)))
		if bytes.Contains(news[:k], []byte(line)) {
			return measurements{"reload ms": float64(time.Since(start).Microseconds()) / 1000}, nil
		}
		time.Sleep(200 * time.Microsecond)
	}
	return nil, fmt.Errorf("no line with %s in the log within 5 s of SIGHUP", line)
}
