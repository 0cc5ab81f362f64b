package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"proxyd/internal/testkit"
)

// isolatedWorld is an exchange behind two upstreams, and a directory that every user
// may read, with a configuration that lets nothing else out.
type isolatedWorld struct {
	exchange     *testkit.Exchange
	rest, stream *testkit.Proxy
	dir, proxyd  string
}

func newIsolatedWorld(t *testing.T, yaml string) *isolatedWorld {
	t.Helper()
	if os.Getuid() != 0 {
		testkit.Lacks(t, "root, to be another user")
	}
	x := testkit.NewExchange(t)
	hosts := map[string]string{"*": x.TLS, "api.binance.com:80": x.HTTP}
	w := &isolatedWorld{exchange: x,
		rest:   testkit.NewProxy(t, testkit.ProxyOptions{Hosts: hosts}),
		stream: testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: hosts})}
	var err error
	if w.dir, err = os.MkdirTemp("", "isolated"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(w.dir) })
	w.proxyd = filepath.Join(w.dir, "proxyd")
	ca, err := os.ReadFile(x.CA.File)
	if err != nil {
		t.Fatal(err)
	}
	// By another process: one that is forked here meanwhile would hold a descriptor of
	// the copy, and a program that is open for writing cannot be executed.
	if out, err := exec.CommandContext(t.Context(), "install", "-m", "755", os.Args[0], w.proxyd).CombinedOutput(); err != nil { //nolint:gosec // this test's own binary
		t.Fatalf("%v: %s", err, out)
	}
	yaml = fmt.Sprintf("watch: false\ndefault: reject\nlisten: 127.0.0.1:8877\npools: {rest: {proxies: [{name: rest, url: %q}]}, stream: {proxies: [{name: stream, url: %q}]}}\nexchanges: {binance: {http: rest, websocket: stream}}\n",
		w.rest.URL(), w.stream.URL()) + yaml
	for name, content := range map[string][]byte{"ca.pem": ca, "proxyd.yaml": []byte(yaml)} {
		if err := os.WriteFile(filepath.Join(w.dir, name), content, 0o755); err != nil { //nolint:gosec // for the other user
			t.Fatal(err)
		}
	}
	if err := os.Chmod(w.dir, 0o755); err != nil { //nolint:gosec // for the other user
		t.Fatal(err)
	}
	return w
}

// exec runs proxyd exec as a user.
func (w *isolatedWorld) exec(t *testing.T, uid uint32, args ...string) (out, errOut string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.proxyd, append([]string{"exec", "-c", filepath.Join(w.dir, "proxyd.yaml")}, args...)...) //nolint:gosec // this test's own binary
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), asProxyd+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

const uidNobody = 65534

// isolatedPrograms know of no proxy, or are set to use none. {ca} is the
// exchange's certificate.
var isolatedPrograms = map[string][]string{
	"curl":                           {"curl", "-sS", "--noproxy", "*", "--cacert", "{ca}", "https://api.binance.com/"},
	"curl, plain HTTP":               {"curl", "-sS", "--noproxy", "*", "http://api.binance.com/"},
	"curl, asking for QUIC's record": {"curl", "-sS", "--noproxy", "*", "--alt-svc", "/dev/null", "--cacert", "{ca}", "https://api.binance.com/"},
	"asyncio and ssl": {"/usr/bin/python3", "-I", "-c", `
import asyncio, ssl
async def main():
    c = ssl.create_default_context(cafile="{ca}")
    r, w = await asyncio.open_connection("api.binance.com", 443, ssl=c)
    w.write(b"GET / HTTP/1.1\r\nHost: api.binance.com\r\nConnection: close\r\n\r\n")
    print((await r.read()).split(b"\r\n\r\n")[1].decode())
asyncio.run(main())`},
	"Node": {"node", "-e", `
require("https").get({host: "api.binance.com", ca: require("fs").readFileSync("{ca}")}, r => r.pipe(process.stdout))`},
}

// websocketProgram upgrades by hand, as a client of the exchange's stream.
var websocketProgram = []string{"/usr/bin/python3", "-I", "-c", `
import ssl, socket
c = ssl.create_default_context(cafile="{ca}")
s = c.wrap_socket(socket.create_connection(("stream.binance.com", 9443)), server_hostname="stream.binance.com")
s.send(b"GET /ws HTTP/1.1\r\nHost: stream.binance.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
print(s.recv(12).decode())`}

// Promise (security): Real programs that know of no proxy, or are set to use none, reach the exchange through the configured upstreams, as root and as a user without rights.
func TestExecIsolatedProgramsGoThroughUpstreams(t *testing.T) {
	t.Parallel()
	for _, uid := range []uint32{0, uidNobody} {
		w := newIsolatedWorld(t, "")
		run := func(args []string) (string, string, int) {
			args = slices.Clone(args)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "{ca}", filepath.Join(w.dir, "ca.pem"))
			}
			return w.exec(t, uid, append([]string{"--isolate", "--no-shim", "--"}, args...)...)
		}
		for name, args := range isolatedPrograms {
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Logf("%s: %v", name, err)
				continue
			}
			before := len(w.rest.Asked())
			out, errOut, code := run(args)
			if strings.TrimSpace(out) != "ok" || code != 0 || !strings.Contains(errOut, "1 connection through rest") {
				t.Errorf("%d: %s: exit code %d: %q\n%s", uid, name, code, out, errOut)
			}
			if asked := w.rest.Asked()[before:]; len(asked) != 1 || asked[0].Host != "api.binance.com" {
				t.Errorf("%d: %s: the upstream was asked %+v", uid, name, asked)
			}
		}
		out, errOut, code := run(websocketProgram)
		if asked := w.stream.Asked(); out != "HTTP/1.1 101\n" || code != 0 || len(asked) != 1 || asked[0].Host != "stream.binance.com" || asked[0].Port != "9443" {
			t.Errorf("%d: websocket: exit code %d: %q\n%s\n%+v", uid, code, out, errOut, asked)
		}
	}
}

// The configuration's own listeners are open inside, and the variables are set as by
// plain exec.
func TestExecIsolatedHasListenersAndVariables(t *testing.T) {
	t.Parallel()
	w := newIsolatedWorld(t, "")
	for _, proxy := range []string{"http://127.0.0.1:8877", "$http_proxy"} {
		out, errOut, code := w.exec(t, uidNobody, "--isolate", "--", "sh", "-c", `curl -sS --noproxy none.example -x "`+proxy+`" http://api.binance.com/; echo; env | grep -c -E '^(LOCALDOMAIN|RES_OPTIONS)='`)
		if out != "ok\n0\n" || code != 1 || !strings.Contains(errOut, "1 connection through rest") {
			t.Errorf("%s: exit code %d: %q\n%s", proxy, code, out, errOut)
		}
	}
}

// A target that --allow names is reached directly, without waiting for first bytes, and
// is named at the end; without it the target is refused.
func TestExecIsolatedAllowsWhatIsNamed(t *testing.T) {
	t.Parallel()
	w := newIsolatedWorld(t, "")
	at := listenBeyondLoopback(t, "220 ready\r\n")
	program := []string{"--", "/usr/bin/python3", "-I", "-c", fmt.Sprintf(`
import socket
s = socket.create_connection((%q, %d), 20)
print(s.makefile().readline().strip())`, at.Addr(), at.Port())}
	cidr := netip.PrefixFrom(at.Addr(), 24).Masked().String()
	out, errOut, code := w.exec(t, uidNobody, append([]string{"--isolate", "--allow", cidr}, program...)...)
	if out != "220 ready\n" || code != 0 || !strings.Contains(errOut, "directly, by --allow "+cidr+": 1 connection to "+at.String()) {
		t.Errorf("exit code %d: %q\n%s", code, out, errOut)
	}
	out, errOut, code = w.exec(t, uidNobody, append([]string{"--isolate", "--allow", "203.0.113.0/24"}, program...)...)
	if code == 0 || strings.Contains(out, "220") || strings.Contains(errOut, "directly") {
		t.Errorf("without: exit code %d: %q\n%s", code, out, errOut)
	}
}

// Packets that were refused are counted at the end, as root and as a user without
// rights; nothing is said where there were none.
func TestExecIsolatedCountsRefusedPackets(t *testing.T) {
	t.Parallel()
	w := newIsolatedWorld(t, "")
	for _, uid := range []uint32{0, uidNobody} {
		_, errOut, code := w.exec(t, uid, "--isolate", "--", "/usr/bin/python3", "-I", "-c", `
import socket
for family, host in (socket.AF_INET, "203.0.113.7"), (socket.AF_INET6, "2001:db8::7"), (socket.AF_INET, "stream.binance.com"):
    s = socket.socket(family, socket.SOCK_DGRAM); s.connect((host, 443))
    try: s.send(b"quic"); print("sent")
    except PermissionError: pass`)
		if code != 0 || !strings.Contains(errOut, "\nproxyd: exec: refused inside, as neither TCP nor name queries: 3 packets of UDP (QUIC and others)\n") {
			t.Errorf("%d: exit code %d: %s", uid, code, errOut)
		}
		_, errOut, code = w.exec(t, uid, "--isolate", "--", "/usr/bin/python3", "-I", "-c", `
import socket
print(socket.getaddrinfo("stream.binance.com", 443))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b"own", ("127.0.0.1", 443))`)
		if code != 0 || strings.Contains(errOut, "refused") || strings.Contains(errOut, "packets") {
			t.Errorf("%d: exit code %d: %s", uid, code, errOut)
		}
	}
}

// A refusal is said while the command runs, with its remedies: its client has seen a
// reset alone.
func TestExecIsolatedSaysRefusalsAtOnce(t *testing.T) {
	t.Parallel()
	w := newIsolatedWorld(t, "")
	said := filepath.Join(w.dir, "said")
	if err := os.WriteFile(said, nil, 0o666); err != nil { //nolint:gosec // for the other user
		t.Fatal(err)
	}
	if err := os.Chmod(said, 0o666); err != nil { //nolint:gosec // the same
		t.Fatal(err)
	}
	const line = "^proxyd: exec: refused: target 203.0.113.7 is refused: .*; if it is one of your own network: --allow 203.0.113.7$"
	program := `curl -sk https://203.0.113.7/; for i in $(seq 300); do grep -q "$0" "$1" && exit 0; sleep .1; done; exit 9`
	cmd := exec.CommandContext(t.Context(), w.proxyd, "exec", "-c", filepath.Join(w.dir, "proxyd.yaml"), "--isolate", "--", "sh", "-c", program, line, said) //nolint:gosec // this test's own binary
	cmd.Env = append(os.Environ(), asProxyd+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uidNobody, Gid: uidNobody}}
	f, err := os.OpenFile(said, os.O_WRONLY|os.O_APPEND, 0) //nolint:gosec // this test's own file
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.Stderr = f
	if err := cmd.Run(); err != nil {
		all, _ := os.ReadFile(said) //nolint:gosec // the same
		t.Errorf("%v:\n%s", err, all)
	}
}

// listenBeyondLoopback returns an address of this machine, not of loopback, at which a
// server greets first.
func listenBeyondLoopback(t *testing.T, greeting string) netip.AddrPort {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Is4() && !p.Addr().IsLoopback()
	})
	if i < 0 {
		testkit.Lacks(t, "an address beyond loopback")
	}
	l, err := net.Listen("tcp", netip.MustParsePrefix(addrs[i].String()).Addr().String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with its client
				defer c.Close()
				_, _ = io.WriteString(c, greeting)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// Where no configuration says otherwise, everything goes direct, and the first line says so.
func TestExecIsolatedWithoutConfiguration(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		testkit.Lacks(t, "root")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "exec", "--isolate", "--no-shim", "--", "true")
	cmd.Dir, cmd.Env = t.TempDir(), []string{asProxyd + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "with the built-in defaults, by which everything goes direct; ") {
		t.Errorf("%v: %s", err, out)
	}
}

// Exit code, signals and errors are those of plain exec.
func TestExecIsolatedEndsAsItsCommand(t *testing.T) {
	t.Parallel()
	w := newIsolatedWorld(t, "")
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--", "sh", "-c", "exit 7"}, 7, "the command opened no connection but to its own loopback"},
		{[]string{"--", "curl", "-sS", "--noproxy", "*", "http://127.0.0.1:6379"}, 7, "where nothing listened on 6379; if that is a server of this machine: --host-port 6379"},
		{[]string{"--", "sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{[]string{"--", "sh", "-c", "kill -TERM $PPID; sleep 20"}, 128 + 15, ""}, // passed on
		{[]string{"--", "/no/such"}, 127, "no such command"},
		{[]string{"--", w.dir + "/ca.pem"}, 126, "could not be started"},
		{[]string{"--daemon", "required", "--", "true"}, 2, "leave --daemon required out"},
		{[]string{"--host-port", "8877", "--", "true"}, 1, "is the port of a listener"},
		{[]string{"--host-port", "70000", "--", "true"}, 2, "is not a port"},
		{[]string{"--host-port", "53", "--", "true"}, 2, "is the name server's"},
		{[]string{"--host-port", "127.0.0.1:6379", "--", "true"}, 2, `--host-port "127.0.0.1:6379" is not a port: write the number alone`},
		{[]string{"--host-port", "", "--", "true"}, 2, "--host-port is empty"},
		{[]string{"--allow", "*", "--", "true"}, 2, "would let everything out"},
		{[]string{"--allow", "0.0.0.0/0", "--", "true"}, 2, "would let everything out"},
		{[]string{"--allow", "", "--", "true"}, 2, "--allow is empty"},
		{[]string{"--allow", "foo/8", "--", "true"}, 2, `--allow "foo/8" is not a CIDR such as`},
		{[]string{"--allow", "10.0.0.1/8", "--", "true"}, 2, "write 10.0.0.0/8\nRun 'proxyd exec --help' for usage."},
		{[]string{"--allow", "127.0.0.1", "--", "true"}, 2, "loopback inside is CMD's own"},
		{[]string{"--allow", "localhost", "--", "true"}, 2, "loopback inside is CMD's own"},
	} {
		_, errOut, code := w.exec(t, uidNobody, append([]string{"--isolate"}, tt.args...)...)
		if code != tt.code || !strings.Contains(errOut, tt.says) {
			t.Errorf("%v: exit code %d, want %d: %s", tt.args, code, tt.code, errOut)
		}
	}
	for _, args := range [][]string{{"--host-port", "1"}, {"--allow", "10.0.0.0/8"}} {
		if _, errOut, code := w.exec(t, uidNobody, append(args, "--", "true")...); code != 2 || !strings.Contains(errOut, "is for --isolate") {
			t.Errorf("%v alone: exit code %d: %s", args, code, errOut)
		}
	}
}
