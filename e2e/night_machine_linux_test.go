package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"proxyd/internal/testkit"
)

func init() {
	nights["disk"], nights["name"], nights["limits"] = nightOfTheDisk, nightOfTheName, nightOfTheLimits
}

// inNamespace returns a line of shell that runs others in a mount namespace of its
// own, before it becomes the daemon.
func inNamespace(t *testing.T, lines ...string) (before string) {
	t.Helper()
	if out, err := exec.Command("unshare", "-rm", "true").CombinedOutput(); err != nil {
		testkit.Lacks(t, fmt.Sprintf("a mount namespace of its own: %v %s", err, out))
	}
	return `exec unshare -rm sh -c '` + strings.Join(lines, " && ") + ` && exec "$0" run -c "$1"' "$0" "$1"`
}

// The disk that the log is on fills up.
func nightOfTheDisk(t *testing.T) {
	dir := t.TempDir()
	d := preparedDesk(t, "")
	before := inNamespace(t, "mount -t tmpfs -o size=1m none "+dir, "exec 2>>"+dir+"/log")
	d.process = &process{File: writeConfig(t, d.config(d.pools(nil), d.entries(""))), Log: newLog(t), Done: make(chan struct{})}
	d.Cmd = exec.Command("sh", "-c", before, binary(t), d.File)
	if err := d.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Cmd.Process.Kill(); _ = d.Cmd.Wait() })
	inside := func(name string) string { return fmt.Sprintf("/proc/%d/root%s/%s", d.Cmd.Process.Pid, dir, name) }
	testkit.Eventually(t, testkit.Patience, "the daemon is ready", func() bool {
		b, _ := os.ReadFile(inside("log"))
		if m := listening.FindSubmatch(b); m != nil {
			d.Addr = string(m[1])
		}
		return d.Addr != "" && strings.Contains(string(b), `"msg":"ready"`)
	})
	d.open(t, 40)
	d.night(t, []trouble{{
		name: "disk full under the log",
		happen: func(t *testing.T, d *desk) {
			err := os.WriteFile(inside("filler"), make([]byte, 2<<20), 0o600)
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the disk is not full: %v", err)
			}
			d.drop("okx") // its clients open their feeds again, which is logged
		},
		words: []string{"DEGRADED: the log loses lines: ", "no space left on device", "since "}, dated: true,
		end: func(t *testing.T, _ *desk) {
			if err := os.Remove(inside("filler")); err != nil {
				t.Fatal(err)
			}
		},
	}})
}

// nameServer is a name server that knows what it is given.
type nameServer struct {
	addr string
	mu   sync.Mutex
	list map[string][4]byte
}

// serveNames starts one on port 53.
func serveNames(t *testing.T) *nameServer {
	t.Helper()
	n := &nameServer{addr: "127.77.53.53", list: map[string][4]byte{}}
	conn, err := net.ListenPacket("udp", n.addr+":53")
	if errors.Is(err, syscall.EACCES) {
		testkit.Lacks(t, "the right to serve port 53")
	}
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup // ends when conn is closed
	serving.Go(func() {
		block := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(block)
			if err != nil {
				return
			}
			if answer, err := n.answer(block[:size]); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	return n
}

// set gives a name an address, or takes it away.
func (n *nameServer) set(name, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.list, name)
	if ip := net.ParseIP(addr).To4(); ip != nil {
		n.list[name] = [4]byte(ip)
	}
}

func (n *nameServer) answer(question []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(question)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	ip, known := n.list[strings.TrimSuffix(q.Name.String(), ".")]
	n.mu.Unlock()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
	switch {
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: ip},
		}}
	}
	return m.Pack()
}

// An upstream is gone, with its name. The address that was last found is used for
// as long as it works.
func nightOfTheName(t *testing.T) {
	dir := t.TempDir()
	before := inNamespace(t, "mount --bind "+dir+"/resolv.conf /etc/resolv.conf")
	n := serveNames(t)
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver "+n.addr+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := preparedDesk(t, "")
	const name = "osaka-1.test"
	host, port, _ := net.SplitHostPort(d.gates["osaka-1"].addr)
	n.set(name, host)
	d.process = launch(t, before, d.config(d.pools(map[string]string{"osaka-1": name + ":" + port}), d.entries("")))
	d.open(t, 40)
	d.night(t, []trouble{{
		name: "upstream's name is gone from DNS",
		happen: func(*testing.T, *desk) {
			n.set(name, "")
			d.gates["osaka-1"].die()
		},
		words: []string{"okx websocket", "osaka-1", "upstream_dns"}, dated: true,
		end: func(t *testing.T, d *desk) {
			n.set(name, host)
			d.gates["osaka-1"].revive(t)
		},
	}})
}

// A client leaks connections: tunnels that it never closes, and connections on which
// it asks for nothing. Descriptors are used up, and with them the tunnels.
func nightOfTheLimits(t *testing.T) {
	const files, tunnels = 160, 48 // (160 - 64) / 2
	d := newDesk(t, 40, fmt.Sprintf("ulimit -n %d", files), "routes: [{hosts: [leak.example], use: frankfurt}]\n")
	var leak *leakingClient
	d.night(t, []trouble{{
		name: "descriptors used up",
		happen: func(t *testing.T, d *desk) {
			leak = startLeak(d.Addr, 60, 60)
			d.drop("okx")
		},
		words: []string{"BAD: okx websocket: 0 tunnels (8 until ", "overload"}, dated: true,
		end: func(t *testing.T, d *desk) {
			news := d.readyz(t)
			if want := fmt.Sprintf("max_tunnels reached: %d of %d", tunnels, tunnels); !strings.Contains(news, want) || !strings.Contains(news, "LimitNOFILE=") {
				t.Errorf("no line with %q: %s", want, news)
			}
			leak.end()
		},
	}})
}

// leakingClient keeps what it opens, and tries again when it is refused.
type leakingClient struct {
	stop chan struct{}
	all  sync.WaitGroup
}

// startLeak opens tunnels, and connections without a request.
func startLeak(addr string, tunnels, silent int) *leakingClient {
	l := &leakingClient{stop: make(chan struct{})}
	for i := range tunnels + silent {
		l.all.Go(func() { // ends with stop
			for {
				c, err := net.Dial("tcp", addr)
				if err == nil {
					if i < tunnels {
						_, _ = fmt.Fprint(c, "CONNECT leak.example:443 HTTP/1.1\r\nHost: leak.example:443\r\n\r\n")
					}
					closed := make(chan struct{})
					go func() { // ends with c
						defer close(closed)
						_, _ = io.Copy(io.Discard, c)
					}()
					select {
					case <-l.stop:
					case <-closed:
					}
					_ = c.Close()
					<-closed
				}
				select {
				case <-l.stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	return l
}

func (l *leakingClient) end() { close(l.stop); l.all.Wait() }
