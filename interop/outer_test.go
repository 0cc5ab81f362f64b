//go:build interop

package interop

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// outer is the network in which proxyd runs. Every address leads to its only
// interface, and what goes to others than loopback is counted there.
type outer struct {
	exchange *binance
	runs     []*programRun
}

// programRun is a run of one program, with upstreams of its own.
type programRun struct {
	name         string
	client       *client
	kind         string
	uid          uint32
	rest, stream *testkit.Proxy
	config       string
	in           string   // its directory
	argv         []string // what it runs
	ended        *ended
}

const (
	outAddr   = "192.0.2.1"          // what connections come from
	outAddr6  = "2001:db8:1::1"      // over IPv6
	siteAddr  = "203.0.113.66"       // what every name means here
	siteAddr6 = "2001:db8:66::66"    // and over IPv6
	listener  = "127.0.0.1:8879"     // what the rules of proxyd nft redirect to
	listener6 = "[::1]:8879"         // over IPv6
	quicLimit = 1000                 // ms in which QUIC must have failed
	runTime   = 30 * time.Second     // the longest that a program may take
	tableName = "proxyd_interop_out" // of the counters
)

// counters of what goes out, and of what goes to loopback though it is for no upstream,
// exchange or transparent listener.
var counters = []string{"tcp4", "udp4", "other4", "tcp6", "udp6", "other6", "names", "loopback"}

// newOuter makes routes for all addresses, and a resolver of names.
func newOuter(t *testing.T) *outer {
	t.Helper()
	for _, line := range []string{
		"ip addr add " + outAddr + "/32 dev lo", "ip -6 addr add " + outAddr6 + "/128 dev lo nodad",
		"ip route add default dev lo src " + outAddr, "ip -6 route add default dev lo src " + outAddr6,
	} {
		system(t, "", strings.Fields(line)...)
	}
	detectNames(t)
	answerQueries(t, "127.0.0.1:53", func(query []byte, _ net.Addr) []byte {
		_, answer := answerTo(query)
		switch size := len(answer); {
		case size < 17: // no question
		case answer[7] > 0:
			copy(answer[size-4:], net.ParseIP(siteAddr).To4())
		case answer[size-3] == 28: // AAAA
			answer[7] = 1
			answer = append(append(answer, 0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16), net.ParseIP(siteAddr6)...)
		}
		return answer
	})
	return &outer{exchange: newBinance(t)}
}

// add plans a run; its program and its configuration are made at once.
func (o *outer) add(t *testing.T, name string, c *client, kind string, uid uint32, more string) *programRun {
	t.Helper()
	r := &programRun{name: name, client: c, kind: kind, uid: uid, ended: &ended{}}
	r.rest = testkit.NewProxy(t, testkit.ProxyOptions{User: "feed", Password: "pw-1", Hosts: map[string]string{"*": o.exchange.addrs["rest"]}})
	r.stream = testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": o.exchange.addrs["websocket"]}})
	id := fmt.Sprintf("run-%d", len(o.runs))
	r.config = file(t, id+".yaml", fmt.Sprintf("admin: \"\"\ndefault: reject\nexchanges:\n  binance: {http: %q, websocket: %q}\n%s", r.rest.URL(), r.stream.URL(), more))
	r.in = filepath.Join(dir, id)
	if err := os.Mkdir(r.in, 0o755); err != nil {
		t.Fatal(err)
	}
	r.argv = c.command(t, kind, r.in)
	if c.language == "node" {
		r.argv[0] = os.Getenv("CLIENTS_NODE20")
	}
	err := filepath.WalkDir(r.in, func(path string, _ os.DirEntry, err error) error {
		return cmp.Or(err, os.Lchown(path, int(uid), int(uid)))
	})
	if err != nil {
		t.Fatal(err)
	}
	o.runs = append(o.runs, r)
	return r
}

// variables are all that a program has.
func (o *outer) variables(r *programRun) []string {
	ca := o.exchange.ca
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.in, "TMPDIR=" + r.in, "LANG=C.UTF-8", "SSL_CERT_FILE=" + ca, "CURL_CA_BUNDLE=" + ca, "NODE_EXTRA_CA_CERTS=" + ca}
}

// isolated is the program under proxyd exec --isolate. It is started with an
// environment of its own, so that all that it knows of proxyd is the network.
func (o *outer) isolated(r *programRun) []string {
	argv := []string{os.Getenv("INTEROP_PROXYD"), "exec", "-c", r.config, "--isolate", "--no-shim", "--"}
	if r.client != noProxyCurl {
		argv = append(append(argv, "env", "-i"), o.variables(r)...)
	}
	return append(argv, r.argv...)
}

// start starts a command line as the run's user, with the variables and no proxy.
func (o *outer) start(ctx context.Context, r *programRun, argv []string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = r.in, o.variables(r)
	cmd.Stdout, cmd.Stderr = &r.ended.stdout, &r.ended.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: r.uid, Gid: r.uid}}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputTime
	return cmd, cmd.Start()
}

// runAll runs command lines, a few at once, to their ends.
func (o *outer) runAll(t *testing.T, runs []*programRun, argv func(*programRun) []string) {
	t.Helper()
	queue := make(chan *programRun)
	var ended sync.WaitGroup
	for range runtime.GOMAXPROCS(0) + 1 {
		ended.Go(func() { // ends when the queue is closed
			for r := range queue {
				ctx, cancel := context.WithTimeoutCause(t.Context(), runTime, errNotEnded)
				cmd, err := o.start(ctx, r, argv(r))
				if err == nil {
					err = cmd.Wait()
				}
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				r.ended.err = err
				cancel()
			}
		})
	}
	for _, r := range runs {
		queue <- r
	}
	close(queue)
	ended.Wait()
}

// count sets the counters to nothing. What goes to the ports of runs is not counted.
func (o *outer) count(t *testing.T, ports ...string) {
	t.Helper()
	for _, address := range o.exchange.addrs {
		ports = append(ports, portOf(address))
	}
	for _, r := range o.runs {
		ports = append(ports, portOf(r.rest.Addr), portOf(r.stream.Addr))
	}
	var rules strings.Builder
	fmt.Fprintf(&rules, "table inet %[1]s\ndelete table inet %[1]s\ntable inet %[1]s {\n", tableName)
	for _, name := range counters {
		fmt.Fprintf(&rules, "counter %s {}\n", name)
	}
	rules.WriteString("chain out {\n")
	for family, own := range map[string]string{"4": "meta nfproto ipv4 fib daddr type != local", "6": "meta nfproto ipv6 fib daddr type != local"} {
		fmt.Fprintf(&rules, "%[2]s meta l4proto tcp counter name tcp%[1]s accept\n%[2]s meta l4proto udp counter name udp%[1]s accept\n%[2]s counter name other%[1]s accept\n", family, own)
	}
	fmt.Fprintf(&rules, "udp dport 53 counter name names accept\nct state new tcp dport != { %s } counter name loopback\nct state new meta l4proto != tcp counter name loopback\n}\n", strings.Join(ports, ", "))
	for _, hook := range []string{"output", "forward"} { // after any redirection
		fmt.Fprintf(&rules, "chain %[1]s {\ntype filter hook %[1]s priority 300; policy accept;\njump out\n}\n", hook)
	}
	system(t, rules.String()+"}\n", "nft", "-f", "-")
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// counted returns the packets of the counters that have any.
func counted(t *testing.T) map[string]int {
	t.Helper()
	out, err := exec.Command("nft", "-j", "list", "counters", "table", "inet", tableName).Output()
	var list struct {
		Nftables []struct {
			Counter struct {
				Name    string `json:"name"`
				Packets int    `json:"packets"`
			} `json:"counter"`
		} `json:"nftables"`
	}
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	packets := map[string]int{}
	for _, one := range list.Nftables {
		if one.Counter.Packets > 0 {
			packets[one.Counter.Name] = one.Counter.Packets
		}
	}
	return packets
}
