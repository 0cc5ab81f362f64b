package isolate

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// each runs a test as root and as a user without rights.
func each(t *testing.T, f func(*testing.T, user)) {
	t.Helper()
	for _, u := range users {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			f(t, u)
		})
	}
}

// python runs a script with the system's Python, which every user may execute.
func python(t *testing.T, u user, o Options, script string, prepare ...func(*exec.Cmd)) outcome {
	t.Helper()
	const interpreter = "/usr/bin/python3"
	if _, err := os.Stat(interpreter); err != nil {
		testkit.Lacks(t, interpreter)
	}
	return isolated(t, u, run{o, []string{interpreter, "-c", prelude + script}}, prepare...)
}

// prelude has what the scripts share: to connect and read a line, and to try.
const prelude = `
import errno, os, socket, sys, time
def line(host, port, family=0):
    last = None
    for f, kind, proto, _, at in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM):
        try:
            s = socket.socket(f, kind, proto); s.settimeout(5); s.connect(at)
            return s.makefile().readline().strip()
        except OSError as e:
            last = e
    raise last
def tried(what, *args):
    try:
        return what(*args)
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))
`

// Promise (security): a program that connects by itself, to a name or to an address of
// IPv4 or IPv6, comes to proxyd, and its own loopback stays its own.
func TestEveryConnectionComesToTheTransparentListener(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, u user) {
		got := python(t, u, Options{Listen: []string{"127.0.0.1:8877", "0.0.0.0:8999"}}, `
print(line("stream.binance.com", 443))
print(line("STREAM.binance.com", 9443))
print(line("api.kraken.com", 80))
print(line("203.0.113.7", 22))
print(line("2001:db8::7", 443))
print(line("127.0.0.1", 8877))
print(line("127.0.0.1", 8999))
print(tried(line, "127.0.0.1", 5432))
print(tried(line, "::1", 5432))
own = socket.create_server(("127.0.0.1", 0))
there = socket.create_connection(own.getsockname())
print("loopback", own.accept()[1][0])
`)
		want := `to 198.18.1.0:443 stream.binance.com
to 198.18.1.0:9443 stream.binance.com
to 198.18.1.1:80 api.kraken.com
to 203.0.113.7:22
to [2001:db8::7]:443
listener 127.0.0.1:8877
listener 0.0.0.0:8999
ECONNREFUSED
ECONNREFUSED
loopback 127.0.0.1
`
		if got.out != want || got.code != 0 {
			t.Errorf("got %+v\nwant %s", got, want)
		}
	})
}

// A listener on all addresses is reached at those of this machine too.
func TestListenerIsReachedAtAddressesOfTheMachine(t *testing.T) {
	t.Parallel()
	at := reachable([]string{":8877", "127.0.0.1:1", "203.0.113.9:8878"})
	if len(at) == 0 || at[len(at)-1].String() != "203.0.113.9:8878" {
		t.Fatalf("reachable: %v", at)
	}
	script := ""
	for _, a := range at {
		script += fmt.Sprintf("print(line(%q, %d))\n", a.Addr(), a.Port())
	}
	got := python(t, users[1], Options{Listen: []string{":8877", "127.0.0.1:1", "203.0.113.9:8878"}}, script+`print(line("203.0.113.9", 8879))`)
	want := strings.Repeat("listener :8877\n", len(at)-1) + "listener 203.0.113.9:8878\nto 203.0.113.9:8879\n"
	if got.out != want {
		t.Errorf("got %+v, want %s", got, want)
	}
}

// Promise (security): what is neither TCP nor a name query is refused at once, so that
// clients of QUIC fall back and none waits.
func TestOtherProtocolsAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, u user) {
		got := python(t, u, Options{}, `
def udp(family, host, port):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(5); s.connect((host, port)); s.send(b"quic")
    return s.recv(9)
def unconnected(family, host, port): # as quic-go and aioquic have it: what comes back later is not seen
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(5); s.sendto(b"quic", (host, port)); return s.recv(9)
start = time.monotonic()
print(tried(unconnected, socket.AF_INET, "203.0.113.7", 443))
print(tried(unconnected, socket.AF_INET6, "2001:db8::7", 443))
print(tried(udp, socket.AF_INET, "203.0.113.7", 443))
print(tried(udp, socket.AF_INET6, "2001:db8::7", 443))
print(tried(udp, socket.AF_INET, "stream.binance.com", 443))
def ping():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    s.settimeout(5); s.connect(("203.0.113.7", 1)); s.send(b"\x08\x00\x00\x00\x00\x00\x00\x00"); return s.recv(99)
print(tried(ping))
assert time.monotonic() - start < 2, "it waited"
`)
		lines := strings.Fields(got.out)
		if len(lines) != 6 || got.code != 0 {
			t.Fatalf("%+v", got)
		}
		want := "refused: {UDP:5 Other:0}, <nil>\n"
		if lines[5] == "EPERM" {
			want = "refused: {UDP:5 Other:1}, <nil>\n"
		}
		if got.err != want {
			t.Errorf("got %q, want %q", got.err, want)
		}
		for _, l := range lines {
			if l != "EPERM" && l != "EACCES" { // the second: this user may not send pings at all
				t.Errorf("%+v", got)
			}
		}
	})
}

// Promise (security): the command has no capability in any set, is who it was, and has
// no descriptor but the standard ones.
func TestCommandHasNoCapabilityAndNoDescriptor(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, u user) {
		leak, err := net.ListenUDP("udp", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer leak.Close()
		f, err := leak.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := shell(t, u, Options{}, `grep -E '^(Cap|NoNewPrivs)' /proc/self/status; id -u; id -g; exec ls /proc/self/fd`,
			func(c *exec.Cmd) { c.ExtraFiles = []*os.File{f, nil, f, f} })
		zeros := regexp.MustCompile(`^CapInh:\t0+\nCapPrm:\t0+\nCapEff:\t0+\nCapBnd:\t0+\nCapAmb:\t0+\nNoNewPrivs:\t1\n`)
		who := fmt.Sprintf("%d\n%d\n", u.uid, u.gid)
		if rest := zeros.ReplaceAllString(got.out, ""); !zeros.MatchString(got.out) || rest != who+"0\n1\n2\n3\n" { // 3 is what ls reads
			t.Errorf("%+v", got)
		}
	})
}

// Promise (security): no program finds another exit: not the network of another
// process, not a new user namespace, not raw sockets, not an unmount.
func TestEscapesFail(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"nsenter", "unshare", "ip", "nft", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			testkit.Lacks(t, tool)
		}
	}
	PATH := func(c *exec.Cmd) { c.Env = append(c.Env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin") }
	for name, script := range map[string]string{
		"network of process 1":      `nsenter -t 1 -n true`,
		"network of the parent":     `nsenter -t $PPID -n true`,
		"user of the parent":        `nsenter -t $PPID -U true`,
		"everything of process 1":   `nsenter -t 1 -a true`,
		"namespace file":            `(exec 9</proc/1/ns/net; nsenter --net=/proc/self/fd/9 true)`,
		"descriptor of the parent":  `readlink /proc/$PPID/fd/2`,
		"environment of the parent": `cat /proc/$PPID/environ`,
		"rules":                     `nft flush ruleset`,
		"links":                     `ip link set lo down`,
		"resolv.conf":               `umount /etc/resolv.conf`,
		"mount":                     `mount -t tmpfs tmpfs /mnt`,
		"raw socket":                `/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'`,
		"packet socket":             `/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)'`,
		"mark":                      `/usr/bin/python3 -c 'import socket; socket.socket().setsockopt(socket.SOL_SOCKET, 36, 1)'`,
		"trace of the parent":       `/usr/bin/python3 -c 'import ctypes, os, sys; sys.exit(ctypes.CDLL(None).ptrace(16, int(sys.argv[1]), 0, 0) != 0)' $PPID`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, u user) {
				got := shell(t, u, Options{}, `if `+script+`; then echo escaped; else echo held; fi`, PATH)
				if got.out != "held\n" || strings.Contains(got.err, "not found") {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// A network that the command makes for itself has no exit at all.
func TestNewNetworkOfTheCommandHasNoExit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, u user) {
		got := shell(t, u, Options{}, `exec unshare -Un /usr/bin/python3 -c '`+prelude+`
print(tried(line, "203.0.113.7", 80)); print([l for _, l in socket.if_nameindex()])'`)
		if !strings.HasPrefix(got.out, "ENETUNREACH\n['lo'") {
			t.Errorf("%+v", got)
		}
	})
}

// Promise (security): a standard descriptor that is a network socket is refused: it
// leads out.
func TestStandardDescriptorThatIsASocketIsRefused(t *testing.T) {
	t.Parallel()
	leak, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	f, err := leak.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := shell(t, users[1], Options{}, `echo escaped`, func(c *exec.Cmd) { c.Stdin = f })
	if got.code != 98 || !strings.Contains(got.err, "standard input is a network socket") {
		t.Errorf("%+v", got)
	}
}

// A port of this machine's loopback comes in by Options.Ports alone.
func TestPortOfTheHost(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, u user) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() { // ends with l
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte("the host's\n"))
				c.Close()
			}
		}()
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		closed := uint16(1) // nothing listens there
		got := python(t, u, Options{Ports: []uint16{port, closed}}, fmt.Sprintf(`
print(line("127.0.0.1", %[1]d))
print(line("localhost", %[1]d))
print(line("::1", %[1]d))
print(repr(tried(line, "127.0.0.1", 1)))
`, port))
		want := "the host's\nthe host's\nthe host's\n'ECONNRESET'\n"
		counted := fmt.Sprintf("port 1: 0 connections, 1 refused\nport %d: 3 connections, 0 refused\n", port)
		if got.out != want || got.err != counted {
			t.Errorf("got %+v", got)
		}
		if without := python(t, u, Options{}, fmt.Sprintf(`print(tried(line, "127.0.0.1", %d))`, port)); without.out != "ECONNREFUSED\n" || without.err != fmt.Sprintf("closed: [%d], <nil>\n", port) {
			t.Errorf("without: %+v", without)
		}
	})
}

// The first ports of loopback that were closed are noted, each once; those of servers of
// the command are not, whatever ends their connections.
func TestClosedPortsOfLoopbackAreNoted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, u user) {
		got := python(t, u, Options{}, `
for port in 7, 6379, 7:
    assert tried(line, "127.0.0.1", port) == "ECONNREFUSED"
assert tried(line, "::1", 9) == "ECONNREFUSED"
s = socket.create_server(("127.0.0.1", 8008))
c = socket.create_connection(("127.0.0.1", 8008))
a, _ = s.accept()
import struct
a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); a.close() # a reset
try: c.recv(1); print("no reset")
except ConnectionResetError: pass
`)
		if got.code != 0 || got.out != "" || got.err != "closed: [7 6379], <nil>\n" {
			t.Errorf("got %+v", got)
		}
		got = python(t, u, Options{}, `
for port in range(100, 300): assert tried(line, "127.0.0.1", port) == "ECONNREFUSED", port
`)
		if n := len(strings.Fields(got.err)); got.code != 0 || n != 32+2 {
			t.Errorf("%d words: %+v", n, got)
		}
	})
}

// Arguments and environment are bytes, and arrive as they are.
func TestCommandGetsItsArgumentsAndEnvironment(t *testing.T) {
	t.Parallel()
	r := run{Args: []string{"sh", "-c", `printf '%s|%s|%s' "$0" "$1" "$BYTES"`, "a b", "-x"}}
	got := isolated(t, users[1], r, func(c *exec.Cmd) { c.Env = append(c.Env, "BYTES=\xff\xfe") })
	if got.out != "a b|-x|\xff\xfe" || got.code != 0 {
		t.Errorf("%+v", got)
	}
	if got := isolated(t, users[1], run{Args: []string{"sh", "-c", "exit 7"}}); got.code != 7 {
		t.Errorf("exit code: %+v", got)
	}
	if got := isolated(t, users[1], run{Args: []string{"/no/such/program"}}); got.code != 97 || !strings.Contains(got.err, "no such file") {
		t.Errorf("no program: %+v", got)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := isolated(t, users[0], run{Args: []string{plain}}); got.code != 97 || !strings.Contains(got.err, "permission denied") {
		t.Errorf("no permission: %+v", got)
	}
}

// Root that may not change its groups, as in some containers, can still run a command.
func TestRootWithoutCapabilityForGroups(t *testing.T) {
	t.Parallel()
	const setpriv = "/usr/bin/setpriv"
	if _, err := os.Stat(setpriv); err != nil {
		t.Skip(err)
	}
	got := isolated(t, users[0], run{Args: []string{"id", "-u"}}, func(c *exec.Cmd) {
		c.Args = []string{setpriv, "--bounding-set=-setgid,-setuid", "--inh-caps=-setgid,-setuid", c.Path}
		c.Path = setpriv
	})
	if got.out != "0\n" || got.code != 0 {
		t.Errorf("%+v", got)
	}
}

// Too few descriptors are named as what is missing, at whichever step.
func TestTooFewDescriptors(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{12, 14, 16, 18, 20, 22, 24} {
		got := shell(t, users[1], Options{}, `echo run`, func(c *exec.Cmd) {
			c.Args = []string{"sh", "-c", fmt.Sprintf("ulimit -n %d; exec %s", limit, c.Path)}
			c.Path = "/bin/sh"
		})
		if got.out != "run\n" && (got.code != 98 || !strings.Contains(got.err, "raise the limit of open files")) {
			t.Errorf("%d: %+v", limit, got)
		}
	}
}

// Each of many connections at once has its own name, also those from one address and port.
func TestManyConnectionsAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, u user) {
		got := python(t, u, Options{}, `
def connect(name, port=0):
    s = socket.socket(); s.settimeout(20)
    if port:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("198.18.0.1", port))
    s.connect((name, 443))
    return s
names = ["n%d.example.com" % i for i in range(500)]
open_ = [(n, connect(n)) for n in names] + [(n, connect(n, 23456)) for n in names[:50]]
print(len({socket.gethostbyname(n) for n in names}))
for name, s in open_:
    got = s.makefile().readline().strip()
    if got != "to %s:443 %s" % (socket.gethostbyname(name), name):
        print(name, got)
`)
		if got.out != "500\n" || got.code != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// A client of multipath TCP comes to its name, too: its connection falls back to plain TCP.
func TestMultipathConnection(t *testing.T) {
	t.Parallel()
	got := python(t, users[1], Options{Listen: []string{"127.0.0.1:8877"}}, `
try:
    multipath = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
except OSError:
    multipath = socket.socket() # a kernel without it
multipath.settimeout(20)
multipath.connect(("stream.binance.com", 443))
print(multipath.makefile().readline().strip())
`)
	if got.out != "to 198.18.1.0:443 stream.binance.com\n" {
		t.Errorf("%+v", got)
	}
}
