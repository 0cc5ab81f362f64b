package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// signal sends one and waits until the log shows that it was taken: the system
// makes one of two that come close together.
func (p *process) signal(t *testing.T, s os.Signal, taken string) {
	t.Helper()
	before := strings.Count(p.Log.String(), taken)
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, testkit.Patience, taken, func() bool { return strings.Count(p.Log.String(), taken) > before })
}

const stopping, reloaded, reloadRefused = `"msg":"stopping"`, `"type":"reload"`, `"type":"reload_refused"`

// tunnel opens one and shows that it carries.
func (p *process) tunnel(t *testing.T, target string) *testkit.Conn {
	t.Helper()
	c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
	if !reply.OK {
		t.Fatalf("%v\n%s", reply, p.Log)
	}
	works(c)
	return c
}

// works shows that a tunnel to an echo carries.
func works(c *testkit.Conn) {
	c.Send("still here?")
	c.Expect("still here?")
}

func TestTheFirstLinesOfTheLog(t *testing.T) {
	t.Parallel()
	p := launch(t, "", "exchanges: {binance: {http: \"socks5://px.example:1080\"}}\n")
	lines := strings.Split(p.Log.String(), "\n")
	for _, want := range []string{
		`"msg":"proxyd"`, `"config":"` + p.Cmd.Args[len(p.Cmd.Args)-1] + `"`, `"address":"` + p.Addr + `","for":"this machine only"`,
		`unlisted hosts`, `binance.websocket`, `DIRECT (no default)`, ` env -c `,
	} {
		if !strings.Contains(strings.Join(lines, "\n"), want) {
			t.Errorf("the first lines lack %s:\n%s", want, p.Log)
		}
	}
	if len(lines) > 12 || !strings.Contains(lines[0], `"msg":"proxyd"`) {
		t.Errorf("they are not the first:\n%s", p.Log)
	}
}

func TestSIGTERMDrains(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	for name, s := range map[string]os.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": os.Interrupt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, "", loopback+"drain_seconds: 30\n")
			c := p.tunnel(t, echo.Addr)
			asks, kept, speaks := testkit.Dial(t, p.Addr), testkit.Dial(t, p.Addr), testkit.Dial(t, p.Addr)
			asks.Send("CONNECT ")
			kept.Send("GET http://" + echo.Addr + "/ HTTP/1.1\r\n")
			speaks.Send("\x05\x01\x00")
			speaks.Expect("\x05\x00") // so it was accepted, and those before it were
			p.signal(t, s, stopping)
			works(c)
			asks.Send(echo.Addr + " HTTP/1.1\r\n\r\n")
			holds(t, testkit.CONNECT11, asks.ReadHTTP("CONNECT"), outcome{"draining", 503, 1})
			kept.Send("Host: " + echo.Addr + "\r\n\r\n")
			holds(t, "GET", kept.ReadHTTP("GET"), outcome{"draining", 503, 1})
			speaks.Send("\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50")
			speaks.Expect("\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00")
			if n, err := net.DialTimeout("tcp", p.Addr, time.Second); err == nil {
				_ = n.Close()
				t.Error("a new connection was accepted")
			} else if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Error(err)
			}
			works(c)
			c.CloseWrite()
			c.ExpectEOF()
			if code := p.ended(t, 8*time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(p.Log.String(), `"msg":"stopped"`) {
				t.Errorf("the last line is missing:\n%s", p.Log)
			}
		})
	}
}

func TestADrainEnds(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	p := launch(t, "", loopback+"drain_seconds: 0.7\n")
	c := p.tunnel(t, echo.Addr)
	from := time.Now()
	p.signal(t, syscall.SIGTERM, stopping)
	if code := p.ended(t, 8*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(from); took < 500*time.Millisecond {
		t.Errorf("ended after %v, drain_seconds is 0.7", took)
	}
	if got, err := c.ReadAll(); got != "" {
		t.Errorf("%q and %v came", got, err)
	}
}

func TestASecondSignalClosesAtOnce(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	p := launch(t, "", loopback+"drain_seconds: 60\n")
	c := p.tunnel(t, echo.Addr)
	p.signal(t, syscall.SIGTERM, stopping)
	works(c)
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.ended(t, 8*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	_, _ = c.ReadAll()
}

func TestSIGHUPLoadsTheFileAnew(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": echo.Addr}})
	p := launch(t, "", "default: \""+up.URL()+"\"\n")
	file := p.Cmd.Args[len(p.Cmd.Args)-1]
	write := func(yaml string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("listen: 127.0.0.1:0\n"+yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask := func() testkit.Reply {
		t.Helper()
		_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target})
		return reply
	}
	c := p.tunnel(t, target)
	write("default: reject\n")
	if reply := ask(); !reply.OK {
		t.Errorf("a file that was only saved took effect: %v", reply)
	}
	p.signal(t, syscall.SIGHUP, reloaded)
	works(c)
	holds(t, testkit.SOCKS5, ask(), denied)
	for name, yaml := range map[string]string{
		"faulty": "default: nosuchpool\nunknown: key\n", "not YAML": "default: [", "a port missing": "default: http://px.example\n", "no certificate": "default: {url: \"https://px.example:1\", tls: {ca_file: /no/such}}\n",
	} {
		write(yaml)
		p.signal(t, syscall.SIGHUP, reloadRefused)
		works(c)
		if reply := ask(); reply.OK || reply.Code != denied.code {
			t.Errorf("%s: what was in force has changed: %v", name, reply)
		}
	}
	if log := p.Log.String(); !strings.Contains(log, file+":2:10: default: ") || !strings.Contains(log, file+":3:1: unknown: ") {
		t.Errorf("the faults are not in the log, all with their lines:\n%s", log)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGHUP, reloadRefused)
	write("default: \"" + up.URL() + "\"\n")
	p.signal(t, syscall.SIGHUP, reloaded)
	if reply := ask(); !reply.OK {
		t.Errorf("after a good file: %v", reply)
	}
	works(c)
}

// held are connections that send nothing, for as long as the test runs: one
// that is closed is replaced at once.
func held(t *testing.T, addr string, n int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup // each ends with cancel
	var once atomic.Int64
	for range n {
		all.Go(func() {
			for first := true; ctx.Err() == nil; first = false {
				c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
				if first {
					once.Add(1)
				}
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { _ = c.Close() })
				_, _ = c.Read(make([]byte, 1))
				stop()
				_ = c.Close()
				time.Sleep(200 * time.Millisecond) // a flood, and not a measure of this machine
			}
		})
	}
	t.Cleanup(func() { cancel(); all.Wait() })
	testkit.Eventually(t, testkit.Patience, "the connections", func() bool { return once.Load() == int64(n) })
}

// connectAgain asks for a tunnel as a client does that tries again when it is cut
// off, and returns the status of its answer. On a busy machine even a client that
// is about to send its request may be the one that has waited longest.
func connectAgain(t *testing.T, addr, target string) (status int) {
	t.Helper()
	testkit.Eventually(t, testkit.Patience, "an answer", func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(testkit.Patience))
		_, _ = fmt.Fprintf(c, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target)
		resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect})
		if err != nil {
			return false
		}
		status = resp.StatusCode
		return true
	})
	return status
}

// Clients that connect and send nothing leave descriptors to all others, and to
// the operator.
//
// Promise (data path): with every descriptor wanted by silent connections and by tunnels, new clients are answered, live
// tunnels go on, the admin address answers, and a saved file comes into force.
func TestSilentConnectionsUseUpNoDescriptors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		files   int
		tunnels int // that are wanted
		some    string
		keys    string
	}{
		{files: 128, tunnels: 15},
		{files: 128, tunnels: 60, keys: "max_tunnels: 1000\n"}, // more than there can be
		{files: 64, tunnels: 40},
	} {
		t.Run(fmt.Sprintf("%d descriptors, %d tunnels wanted", c.files, c.tunnels), func(t *testing.T) {
			t.Parallel()
			echo := testkit.NewTCP(t, testkit.Echo)
			socket := filepath.Join(t.TempDir(), "admin")
			yaml := fmt.Sprintf("%sadmin: unix:%s\nwatch: true\ndefault: direct\n%s", loopback, socket, c.keys)
			p := launch(t, fmt.Sprintf("ulimit -n %d", c.files), yaml)
			live := p.tunnel(t, echo.Addr)
			open, full := 1, false
			for range c.tunnels - 1 {
				n, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr})
				if reply.OK {
					open++
				} else if full = true; reply.Status != 503 {
					t.Errorf("tunnel %d: %v", open+1, reply)
				}
				t.Cleanup(func() { _ = n.Close() })
			}
			if want := (c.files - min(64, c.files/2)) / 2; open > want || full && open < want {
				t.Errorf("%d tunnels are open, full %v; there is room for %d", open, full, want)
			}
			held(t, p.Addr, 300)
			for range 3 {
				start := time.Now()
				p.admin(t, socket, "/api/v1/status")
				if status := connectAgain(t, p.Addr, echo.Addr); full != (status == 503) || full == (status == 200) {
					t.Errorf("a new client: %d", status)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
			}
			testkit.Eventually(t, testkit.Patience, "status to say why connections are closed", func() bool {
				return strings.Contains(p.admin(t, socket, "/api/v1/status"), "closed to make room")
			})
			works(live)
			if err := os.WriteFile(p.File, []byte(withListen(yaml)+"drain_seconds: 1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, testkit.Patience, "the saved file to be in force", func() bool { return strings.Contains(p.Log.String(), reloaded) })
			if log := p.Log.String(); strings.Contains(log, reloadRefused) {
				t.Errorf("a reload was refused:\n%s", log)
			}
			works(live)
		})
	}
}

func TestExitCodes(t *testing.T) {
	taken := testkit.SilentListener(t)
	for name, tc := range map[string]struct {
		args []string
		want int
		say  string
	}{
		"a faulty file":    {[]string{"run", "-c", writeConfig(t, "default: x\n")}, 1, "there is no pool"},
		"no such file":     {[]string{"run", "-c", "/no/such/file.yaml"}, 1, "/no/such/file.yaml"},
		"an address taken": {[]string{"run", "-c", writeConfig(t, fmt.Sprintf("listen: %q\n", taken))}, 1, "the port is taken"},
		"open to all":      {[]string{"run", "-c", writeConfig(t, "listen: \"0.0.0.0:0\"\n")}, 1, "auth"},
		"unknown command":  {[]string{"fly"}, 2, "fly"},
		"unknown flag":     {[]string{"run", "--fast"}, 2, "--fast"},
		"check":            {[]string{"check", "-c", writeConfig(t, "default: x\n")}, 1, "default"},
		"nobody there":     {[]string{"health", "-c", writeConfig(t, fmt.Sprintf("listen: %q\n", testkit.ClosedPort(t)))}, 1, "nothing answers"},
		"nobody answers":   {[]string{"health", "--timeout-seconds", "0.2", "-c", writeConfig(t, fmt.Sprintf("listen: %q\n", taken))}, 1, "does not answer"},
		"refused":          {[]string{"route", "-c", writeConfig(t, "default: reject\n"), "a.example"}, 1, "refused"},
	} {
		out, code := run(t, nil, tc.args...)
		if code != tc.want || !strings.Contains(out, tc.say) {
			t.Errorf("%s: %d, %q; want %d and %q", name, code, out, tc.want, tc.say)
		}
	}
}

// What was accepted before the signal is answered: there is no tunnel, but a
// plain request on its way, and a dial.
func TestADrainWaitsForRequests(t *testing.T) {
	t.Parallel()
	x := testkit.NewExchange(t)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Fault: testkit.On(testkit.AtRequest, testkit.Hang)})
	p := launch(t, "", loopback+"drain_seconds: 10\nexchanges: {binance: {http: {url: \""+up.URL()+"\", timeout_seconds: 1.5}}}\nroutes: [{hosts: [127.0.0.1], use: direct}]\n")
	c := testkit.Dial(t, p.Addr)
	c.Send("GET http://" + x.HTTP + "/slow?ms=1000 HTTP/1.1\r\nHost: " + x.HTTP + "\r\n\r\n")
	d := testkit.Dial(t, p.Addr)
	d.Send("CONNECT " + target + " HTTP/1.1\r\n\r\n")
	testkit.Eventually(t, testkit.Patience, "both are on their way", func() bool { return len(x.Requests()) == 1 && len(up.Asked()) == 1 })
	p.signal(t, syscall.SIGTERM, stopping)
	if r := c.ReadHTTP("GET"); r.Status != 200 || r.Body != "ok" {
		t.Errorf("the plain request: %v", r)
	}
	if r := d.ReadHTTP("CONNECT"); r.Status != 504 {
		t.Errorf("the dial: %v", r)
	}
	p.ended(t, 8*time.Second)
}

// Every tunnel has its line, also those that a stop closes.
func TestTunnelsThatAStopClosesAreInTheLog(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	for range 10 {
		p := launch(t, "", loopback+"drain_seconds: 0.01\n")
		for range 5 {
			p.tunnel(t, echo.Addr)
		}
		p.signal(t, syscall.SIGTERM, stopping)
		p.ended(t, testkit.Patience)
		if n := strings.Count(p.Log.String(), `"closed_by":"proxyd","reason":"closed"`); n != 5 {
			t.Errorf("%d of 5 tunnels have a line", n)
		}
	}
}
