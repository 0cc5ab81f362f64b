//go:build linux

package main

import (
	"bufio"
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
type site struct{ Dir, Host, Port, UpHost, UpPort string }

var recipes = map[string]recipe{
	"io.Copy": {"copy.txt", "", "copy {{.Host}}:{{.Port}} {{.UpHost}}:{{.UpPort}}"},
	"proxyd":  {"proxyd.yaml", "listen: {{.Host}}:{{.Port}}\ndefault: http://{{.UpHost}}:{{.UpPort}}\nlog: {level: info, format: json}\n", "run -c {{.Dir}}/proxyd.yaml"},
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

var workloads = map[string]func(place, options) (figures, error){
	"setup": setup, "bulk": bulk, "messages": messages(5000), "fast": messages(20000), "pingpong": pingpong, "idle": idle, "get": get,
}

// run measures all candidates and prints the table.
func run(o options) error {
	list := []candidate{{name: baseline}}
	known := recipes
	if o.direct {
		known = direct
	}
	for pair := range strings.SplitSeq(o.bins, ",") {
		name, bin, ok := strings.Cut(pair, "=")
		r, there := known[name]
		if !ok || !there {
			return fmt.Errorf("-bins %q: want NAME=BINARY with a NAME of %s", pair, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		list = append(list, candidate{name, bin, r})
	}
	back, stop, err := startOrigin()
	if err != nil {
		return err
	}
	defer stop()
	if o.curve != "" {
		return curve(list[1], back, o)
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

// backends are the addresses of the plain upstream and the origins behind.
type backends struct{ upstream, origin, web string }

func startOrigin() (backends, func(), error) {
	self, err := os.Executable()
	if err != nil {
		return backends{}, nil, err
	}
	cmd := exec.Command(self, "origin")
	in, err := cmd.StdinPipe()
	if err != nil {
		return backends{}, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return backends{}, nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return backends{}, nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return backends{}, nil, err
	}
	f := strings.Fields(line)
	return backends{f[0], f[1], f[2]}, func() { _ = in.Close(); _ = cmd.Wait() }, nil
}

// one starts a candidate afresh, measures and stops it.
func one(c candidate, back backends, o options, measure func(place, options) (figures, error)) (figures, error) {
	p := place{proxy: back.upstream, origin: back.origin, web: back.web, direct: o.direct}
	if c.bin != "" {
		addr, pid, stop, err := start(c, back.upstream)
		if err != nil {
			return nil, err
		}
		defer stop()
		p.proxy, p.pid = addr, pid
	}
	return measure(p, o)
}

func start(c candidate, upstream string) (addr string, pid int, stop func(), err error) {
	dir, err := os.MkdirTemp("", "bench-"+c.name)
	if err != nil {
		return "", 0, nil, err
	}
	addr = freeAddress()
	r := c.recipe
	s := site{Dir: dir}
	s.Host, s.Port, _ = net.SplitHostPort(addr)
	s.UpHost, s.UpPort, _ = net.SplitHostPort(upstream)
	if err := os.WriteFile(filepath.Join(dir, r.file), []byte(fillIn(r.config, s)), 0o644); err != nil {
		return "", 0, nil, err
	}
	_ = os.Chmod(dir, 0o777) //nolint:gosec // squid writes there as another user
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", 0, nil, err
	}
	cmd := exec.Command(c.bin, strings.Fields(fillIn(r.args, s))...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", 0, nil, err
	}
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
		if k, err := net.Dial("tcp", addr); err == nil {
			_ = k.Close()
			time.Sleep(100 * time.Millisecond)
			return addr, cmd.Process.Pid, stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	stop()
	return "", 0, nil, fmt.Errorf("does not listen: %.400s", text)
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

// curve shows what a candidate costs as the number of its tunnels grows.
func curve(c candidate, back backends, o options) error {
	fmt.Println("| tunnels | open | RSS MiB | KiB each | fds each | idle CPU ms/s |\n|---|---|---|---|---|---|")
	for text := range strings.SplitSeq(o.curve, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-curve %q: %w", text, err)
		}
		f, err := one(c, back, o, func(p place, o options) (figures, error) { return idleAt(p, n, o.time) })
		if err != nil {
			return err
		}
		fmt.Printf("| %d | %.0f | %.1f | %.1f | %.2f | %.2f |\n", n, f["open"], f["MiB with"], f["KiB/tunnel"], f["fds/tunnel"], f["CPU ms/s"])
	}
	return nil
}

// results are all measurements by workload, candidate and name.
type results map[string]map[string]map[string][]float64

func (r results) add(work, name string, f figures) {
	if r[work] == nil {
		r[work] = map[string]map[string][]float64{}
	}
	if r[work][name] == nil {
		r[work][name] = map[string][]float64{}
	}
	for k, v := range f {
		r[work][name][k] = append(r[work][name][k], v)
	}
}

// markdown is one table a workload: medians, a line for each candidate.
func (r results) markdown(works []string, list []candidate) string {
	var b strings.Builder
	for _, w := range works {
		names := map[string]bool{}
		for _, f := range r[w] {
			for k := range f {
				names[k] = true
			}
		}
		columns := slices.Sorted(maps.Keys(names))
		fmt.Fprintf(&b, "\n**%s**\n\n| candidate | %s |\n|---|%s\n", w, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
		for _, c := range list {
			f := r[w][c.name]
			if len(f) == 0 {
				continue
			}
			fmt.Fprintf(&b, "| %s |", c.name)
			for _, k := range columns {
				fmt.Fprintf(&b, " %s |", median(f[k]))
			}
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

func median(v []float64) string {
	if len(v) == 0 {
		return "–"
	}
	slices.Sort(v)
	m := v[len(v)/2]
	switch {
	case m >= 100:
		return strconv.FormatFloat(m, 'f', 0, 64)
	case m >= 10:
		return strconv.FormatFloat(m, 'f', 1, 64)
	}
	return strconv.FormatFloat(m, 'f', 2, 64)
}
