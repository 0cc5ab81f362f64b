//go:build interop

package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"proxyd/internal/testkit"
)

// network is what one worker has for itself: proxyd on its usual port, an exchange
// that is reached through two upstreams alone, and the detector behind every name.
type network struct {
	clients      map[string]*client
	detector     *detector
	exchange     *binance
	rest, stream *testkit.Proxy
	silent       *testkit.Proxy
	config       string   // the file of the running proxyd
	environ      []string // what proxyd env prints
	state        string
	proxyd       *daemon
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	w := &network{clients: map[string]*client{}, detector: newDetector(t), exchange: newBinance(t)}
	for _, c := range readClients(t) {
		w.clients[c.id] = c
	}
	w.rest = testkit.NewProxy(t, testkit.ProxyOptions{User: "feed", Password: "pw-1", Hosts: map[string]string{"*": w.exchange.addrs["rest"]}})
	w.stream = testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": w.exchange.addrs["websocket"]}})
	w.silent = testkit.NewProxy(t, testkit.ProxyOptions{Fault: testkit.On(testkit.AtRequest, testkit.Hang)})
	for _, home := range []string{"home", "home-netrc"} {
		if err := os.MkdirAll(filepath.Join(dir, home), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file(t, "home-netrc/.netrc", "default login trader password geheim-9\n")
	if err := os.Chmod(filepath.Join(dir, "home-netrc", ".netrc"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	return w
}

// upstream is that of a kind.
func (w *network) upstream(kind string) *testkit.Proxy {
	if kind == "websocket" {
		return w.stream
	}
	return w.rest
}

// exchangeIDs are those that the clients ask.
var exchangeIDs = []string{"binance", "binance_futures", "binance_delivery", "binance_us", "bybit"}

// refusals are what proxyd answers in three states of the upstreams.
var refusals = []string{"502", "403", "504"}

// stateOf returns the state of the upstreams that a column wants.
func stateOf(column string) string {
	if slices.Contains(refusals, column) {
		return column
	}
	return "well"
}

// start makes proxyd run with the configuration of a state. After a refusal it is
// started again, so that it remembers none.
func (w *network) start(t *testing.T, state string) {
	t.Helper()
	if w.proxyd != nil && w.state == state && state == "well" {
		return
	}
	w.stop()
	rest, stream := w.rest.URL(), w.stream.URL()
	switch state {
	case "502": // nothing listens there
		rest, stream = "http://127.0.0.1:9", "http://127.0.0.1:9"
	case "403":
		rest, stream = "reject", "reject"
	case "504":
		rest = w.silent.URL()
	}
	var b strings.Builder
	b.WriteString("admin: \"\"\ndefault: reject\nexchanges:\n")
	for _, id := range exchangeIDs {
		if state == "504" {
			fmt.Fprintf(&b, "  %s: {url: %q, timeout_seconds: 1}\n", id, rest)
			continue
		}
		fmt.Fprintf(&b, "  %s: {http: %q, websocket: %q}\n", id, rest, stream)
	}
	w.config, w.state = file(t, "proxyd-"+state+".yaml", b.String()), state
	w.proxyd = startDaemon(t, w.config)
	out, err := exec.Command(os.Getenv("INTEROP_PROXYD"), "env", "-c", w.config, "--shell", "bash").Output()
	if err != nil {
		t.Fatalf("proxyd env: %v", err)
	}
	w.environ = nil
	for _, m := range regexp.MustCompile("(?m)^export (.*)$").FindAllStringSubmatch(string(out), -1) {
		w.environ = append(w.environ, m[1])
	}
}

func (w *network) stop() {
	if w.proxyd != nil {
		w.proxyd.stop()
		w.proxyd = nil
	}
}

// daemon is a running proxyd.
type daemon struct {
	cmd  *exec.Cmd
	out  testkit.Output
	done chan struct{}
}

func startDaemon(t *testing.T, config string) *daemon {
	t.Helper()
	d := &daemon{cmd: exec.Command(os.Getenv("INTEROP_PROXYD"), "run", "-c", config), done: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		_ = d.cmd.Wait()
		close(d.done)
	}()
	testkit.Eventually(t, cellTime, "proxyd is ready", func() bool {
		select {
		case <-d.done:
			t.Fatalf("proxyd ended:\n%s", d.out.String())
		default:
		}
		return strings.Contains(d.out.String(), `"msg":"ready"`)
	})
	return d
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Kill()
	<-d.done
}

// task is what a worker does next: a cell, or the outage of these clients.
type task struct {
	Cell   cell
	Outage []string
}

// TestWorker runs the tasks that TestMatrix sends on standard input, in a network
// of its own; outcomes go to file 3.
func TestWorker(t *testing.T) {
	if os.Getenv("INTEROP_WORKER") == "" {
		t.Skip("started by TestMatrix")
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w := newNetwork(t)
	cells, outcomes := json.NewDecoder(os.Stdin), json.NewEncoder(os.NewFile(3, "outcomes"))
	for {
		var work task
		if err := cells.Decode(&work); err != nil {
			return // TestMatrix has no more
		}
		var done []outcome
		if work.Outage != nil {
			done = w.outage(t, work.Outage)
		} else {
			done = []outcome{w.run(t, work.Cell)}
		}
		if err := outcomes.Encode(done); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
}
