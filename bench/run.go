//go:build linux

package main

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
)

// recipe starts a candidate. The template's fields are those of site.
type recipe struct{ file, config, args string }

// site is what a candidate's configuration is made of.
//
// A candidate that can lead to two upstreams also listens on Other, port Port,
// and leads from there to Second.
type site struct{ Dir, Host, Port, UpHost, UpPort, Other, Second, CertFile string }

// other is the second address that a candidate listens on.
const other = "127.0.0.2"

var recipes = map[string]recipe{
	"io.Copy": {"copy.txt", "", "copy {{.Host}}:{{.Port}} {{.UpHost}}:{{.UpPort}} {{.Other}}:{{.Port}} {{.Second}}"},
	"proxyd": {"proxyd.yaml", "listen: [\"{{.Host}}:{{.Port}}\", {address: \"{{.Other}}:{{.Port}}\", use: http://{{.Second}}}]\ndefault: http://{{.UpHost}}:{{.UpPort}}\n" +
		"allow_private: [127.0.0.0/8]\nlog: {level: info, format: json}\n", "run -c {{.Dir}}/proxyd.yaml"},
	"tinyproxy": {"tinyproxy.conf", "Port {{.Port}}\nListen {{.Host}}\nTimeout 600\nMaxClients 20000\nAllow 127.0.0.1\nDisableViaHeader Yes\nUpstream http {{.UpHost}}:{{.UpPort}}\nLogLevel Error\nLogFile \"{{.Dir}}/tinyproxy.log\"\n",
		"-d -c {{.Dir}}/tinyproxy.conf"},
	"squid": {"squid.conf", "http_port {{.Host}}:{{.Port}}\npid_filename {{.Dir}}/squid.pid\naccess_log none\ncache_log {{.Dir}}/squid.log\ncache deny all\nvia off\nhttp_access allow all\nmax_filedescriptors 20000\n" +
		"cache_peer {{.UpHost}} parent {{.UpPort}} 0 no-query default\nnever_direct allow all\nshutdown_lifetime 0 seconds\n", "-N -f {{.Dir}}/squid.conf"},
	"gost":   {"gost.txt", "", "-L http://{{.Host}}:{{.Port}} -F http://{{.UpHost}}:{{.UpPort}}"},
	"glider": {"glider.txt", "", "-listen http://{{.Host}}:{{.Port}} -forward http://{{.UpHost}}:{{.UpPort}}"},
}

// direct are the recipes of -direct.
var direct = map[string]recipe{
	"proxyd":     {"proxyd.yaml", "listen: {{.Host}}:{{.Port}}\ndefault: direct\nallow_private: [127.0.0.0/8]\nlog: {level: info, format: json}\n", "run -c {{.Dir}}/proxyd.yaml"},
	"microsocks": {"microsocks.txt", "", "-i {{.Host}} -p {{.Port}}"},
	"dante": {"danted.conf", "logoutput: {{.Dir}}/danted.log\ninternal: {{.Host}} port = {{.Port}}\nexternal: {{.Host}}\nclientmethod: none\nsocksmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n" +
		"client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }\nsocks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }\n", "-f {{.Dir}}/danted.conf -p {{.Dir}}/danted.pid"},
}

// inTLS are the recipes of -tls.
var inTLS = map[string]recipe{
	"proxyd": {"proxyd.yaml", "listen: {{.Host}}:{{.Port}}\ndefault: {url: \"https://{{.UpHost}}:{{.UpPort}}\", tls: {ca_file: {{.CertFile}}}}\nallow_private: [127.0.0.0/8]\nlog: {level: info, format: json}\n", "run -c {{.Dir}}/proxyd.yaml"},
}

func knownNames() []string {
	return slices.Compact(slices.Sorted(maps.Keys(merged(recipes, direct))))
}

func merged(a, b map[string]recipe) map[string]recipe {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

// candidate is a proxy under test; the one without a binary is the path
// without a proxy.
type candidate struct {
	name, bin string
	recipe    recipe
}

const baseline = "no proxy"

var workloads = map[string]func(endpoints, options) (measurements, error){
	"setup": setup, "bulk": bulk(1), "bulk8": bulk(8), "messages": messages(100, 5000), "fast": messages(100, 20000), "pingpong": pingpong, "idle": idle, "get": get,
	"mixed": mixed(1, false), "mixed4": mixed(4, false), "apart": mixed(1, true), "apart4": mixed(4, true),
}

// run measures all candidates and prints the table.
func run(o options) error {
	list := []candidate{{name: baseline}}
	known := recipes
	switch {
	case o.direct:
		known = direct
	case o.tls:
		list, known = nil, inTLS
	}
	for pair := range strings.SplitSeq(o.bins, ",") {
		name, bin, ok := strings.Cut(pair, "=")
		kind, _, _ := strings.Cut(name, "@") // proxyd@before is a second proxyd
		r, there := known[kind]
		if !ok || !there {
			return fmt.Errorf("-bins %q: want NAME=BINARY or NAME@LABEL=BINARY with a NAME of %s", pair, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		list = append(list, candidate{name, bin, r})
	}
	back, stop, err := startBackends()
	if err != nil {
		return err
	}
	defer stop()
	if o.curve != "" {
		return curve(list[len(list)-1], back, o)
	}
	works := strings.Split(o.works, ",")
	seen := results{}
	for round := range o.rounds {
		for _, w := range works {
			measure, ok := workloads[w]
			if !ok {
				return fmt.Errorf("-work %q: want some of %s", w, strings.Join(slices.Sorted(maps.Keys(workloads)), ", "))
			}
			for i := range list { // another order in each round
				c := list[(i+round)%len(list)]
				f, err := one(c, back, o, measure)
				if err != nil {
					fmt.Fprintf(os.Stderr, "round %d %s %s: %v\n", round+1, w, c.name, err)
					continue
				}
				fmt.Fprintf(os.Stderr, "round %d %s %s: %v\n", round+1, w, c.name, f)
				seen.add(w, c.name, f)
			}
		}
	}
	table := seen.markdown(works, list)
	fmt.Print(table)
	if o.table != "" {
		return os.WriteFile(o.table, []byte(table), 0o644)
	}
	return nil
}

// one starts a candidate afresh, measures and stops it.
func one(c candidate, back backends, o options, measure func(endpoints, options) (measurements, error)) (measurements, error) {
	p := endpoints{proxy: back.upstream, second: back.second, origin: back.origin, echo: back.echo, web: back.web, direct: o.direct}
	if c.bin != "" {
		s := site{CertFile: back.certFile, Other: other, Second: back.second}
		s.UpHost, s.UpPort, _ = net.SplitHostPort(back.upstream)
		if o.tls {
			s.UpHost, s.UpPort, _ = net.SplitHostPort(back.inTLS)
		}
		stop, err := start(c, s, &p, o.procs)
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	return measure(p, o)
}

// start starts a candidate and sets its address in p.
func start(c candidate, s site, p *endpoints, procs int) (stop func(), err error) {
	dir, err := os.MkdirTemp("", "bench-"+c.name)
	if err != nil {
		return nil, err
	}
	r := c.recipe
	s.Dir, p.proxy = dir, freeAddress()
	s.Host, s.Port, _ = net.SplitHostPort(p.proxy)
	if p.second = ""; strings.Contains(r.config+r.args, ".Second") {
		p.second = net.JoinHostPort(s.Other, s.Port)
	}
	if err := os.WriteFile(filepath.Join(dir, r.file), []byte(fillIn(r.config, s)), 0o644); err != nil {
		return nil, err
	}
	_ = os.Chmod(dir, 0o777) //nolint:gosec // squid writes there as another user
	p.log = filepath.Join(dir, "log")
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(c.bin, strings.Fields(fillIn(r.args, s))...)
	cmd.Stdout, cmd.Stderr = log, log
	if procs > 0 {
		cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(procs))
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-gone:
		case <-time.After(2 * time.Second):
			_ = cmd.Process.Kill()
			<-gone
		}
		_ = log.Close()
		_ = os.RemoveAll(dir)
	}
	for range 200 {
		if k, err := net.Dial("tcp", p.proxy); err == nil {
			_ = k.Close()
			time.Sleep(100 * time.Millisecond)
			return stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(p.log)
	stop()
	return nil, fmt.Errorf("does not listen: %.400s", text)
}

func freeAddress() string {
	l := listen()
	defer l.Close()
	return l.Addr().String()
}

func fillIn(text string, s site) string {
	var b strings.Builder
	if err := template.Must(template.New("").Parse(text)).Execute(&b, s); err != nil {
		panic(err) // the recipes are ours
	}
	return b.String()
}
