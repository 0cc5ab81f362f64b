//go:build linux

// Command bench measures a forward proxy on loopback beside others, in one run:
//
//	client -> candidate -> upstream (a plain CONNECT proxy) -> origin
//	client -> candidate -> origin                        with -direct, by SOCKS5
//
// Each round takes every candidate in another order; the report gives medians
// and ratios to the path without a candidate. CPU is the candidate's own, from
// the kernel's accounting of its processes. run.sh prepares the candidates.
//
// It sends traffic to 127.0.0.0/8 only and needs Linux.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 1 { // the children that play origin and upstream
		switch os.Args[1] {
		case "origin":
			serveOrigin()
			return
		case "upstream":
			serveUpstream()
			return
		}
	}
	if len(os.Args) > 5 && os.Args[1] == "copy" { // the candidate io.Copy
		go serveCopy(os.Args[4], os.Args[5]) // with the process
		serveCopy(os.Args[2], os.Args[3])
		return
	}
	var o options
	flag.StringVar(&o.bins, "bins", "", "candidates as NAME=BINARY (or NAME@LABEL=BINARY, to compare two builds), separated by commas; known names: "+strings.Join(knownNames(), ", "))
	flag.StringVar(&o.works, "work", "setup,bulk,bulk8,messages,fast,pingpong,mixed,mixed4,apart,apart4,idle,get", "workloads, separated by commas")
	flag.IntVar(&o.rounds, "rounds", 3, "interleaved rounds")
	flag.DurationVar(&o.time, "time", 4*time.Second, "length of one measurement")
	flag.IntVar(&o.idle, "idle", 3000, "tunnels of the idle workload")
	flag.IntVar(&o.procs, "procs", 0, "GOMAXPROCS of the candidates; 0: as they choose")
	flag.StringVar(&o.curve, "curve", "", "instead: CPU, memory and time of a reload of proxyd at these numbers of tunnels, separated by commas")
	flag.BoolVar(&o.tls, "tls", false, "the upstream speaks TLS; of the candidates proxyd alone can do that")
	flag.BoolVar(&o.direct, "direct", false, "candidates are asked by SOCKS5 and dial the origin themselves")
	flag.StringVar(&o.table, "table", "", "write the Markdown table to this file too")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	bins, works, table, curve string
	rounds, idle, procs       int
	direct, tls               bool
	time                      time.Duration
}
