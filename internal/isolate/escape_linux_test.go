package isolate

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"proxyd/internal/testkit"
	"strings"
	"testing"
)

// attempts are system calls by which a program could find another exit. Each that
// succeeds is printed. They are made as the command is, and again as the owner of a user
// namespace of its own, in which it has every capability; {abstract} is the name of a
// socket of this machine.
const attempts = `
import ctypes, fcntl, struct
libc = ctypes.CDLL(None, use_errno=True)
NEWNET, NEWUSER, NEWNS, DETACH = 0x40000000, 0x10000000, 0x20000, 2
def call(f, *args):
    got = f(*args)
    if got == -1:
        raise OSError(ctypes.get_errno(), f.__name__)
    return got
parent = os.getppid()
def pidfd(): return call(libc.syscall, 434, parent, 0)
def descriptors():
    p = pidfd()
    if all(libc.syscall(438, p, fd, 0) == -1 for fd in range(64)):
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
def links(flags):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", flags))
def tun(): fcntl.ioctl(os.open("/dev/net/tun", os.O_RDWR), 0x400454ca, struct.pack("16sH22x", b"tun0", 1))
def abstract(): socket.socket(socket.AF_UNIX).connect("\\0{abstract}")
def bound():
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, 25, b"lo"); s.bind(("127.0.0.1", 0))
    s.setsockopt(socket.IPPROTO_IP, 19, 1) # IP_TRANSPARENT
tries = {
    "network of the parent, by its descriptor": lambda: call(libc.setns, pidfd(), NEWNET),
    "network that standard input is": lambda: call(libc.setns, 0, NEWNET),
    "descriptors of the parent": descriptors,
    "memory of the parent": lambda: open("/proc/%d/mem" % parent, "rb"),
    "files of the parent": lambda: os.listdir("/proc/%d/root/" % parent),
    "network of the parent, by its file": lambda: os.open("/proc/%d/ns/net" % parent, os.O_RDONLY),
    "trace of the parent": lambda: call(libc.ptrace, 0x4206, parent, 0, 0),
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3),
    "links": lambda: links(0),
    "another device": tun,
    "abstract socket of the machine": abstract,
    "transparent socket": bound,
}
def attempt(whose):
    for name, what in tries.items():
        try:
            what()
            print("escaped", whose + ":", name)
        except OSError:
            pass
attempt("as it is")
call(libc.unshare, NEWUSER)
attempt("with a user namespace")
call(libc.unshare, NEWNS)
tries = {
    "resolv.conf": lambda: call(libc.umount2, b"/etc/resolv.conf", DETACH),
    "another view of /etc": lambda: call(libc.mount, b"/etc", b"/mnt", None, 4096, None), # without the mounts in it
}
attempt("with a mount namespace")
print("tried")
`

// Promise (security): no system call finds another exit, also not with the capabilities of a user namespace of its own.
func TestAttemptsToEscapeFail(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("isolate-test-%d", os.Getpid())
	l, err := net.Listen("unix", "@"+name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	each(t, func(t *testing.T, u user) {
		network, err := os.Open("/proc/self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		defer network.Close()
		got := python(t, u, Options{}, strings.ReplaceAll(attempts, "{abstract}", name), func(c *exec.Cmd) { c.Stdin = network })
		if got.out != "tried\n" || got.code != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// The attempts are real: they succeed for root in a network, whose shell is in another
// one. No socket of the machine is there.
func TestAttemptsToEscapeSucceedWithoutIsolation(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		testkit.Lacks(t, "root")
	}
	const networks = `exec </proc/self/ns/net; unshare -n /usr/bin/python3 -c "$ATTEMPTS"; :`
	cmd := exec.CommandContext(t.Context(), "unshare", "-nm", "sh", "-c", networks)
	cmd.Env = append(os.Environ(), "ATTEMPTS="+prelude+attempts)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, line := range strings.Split(attempts, "\n") {
		name, _, is := strings.Cut(strings.TrimPrefix(line, `    "`), `": `)
		if !is || strings.HasPrefix(name, "abstract") {
			continue
		}
		if name == "resolv.conf" {
			break
		}
		if !strings.Contains(string(out), "escaped as it is: "+name+"\n") {
			t.Errorf("%s: not in %s", name, out)
		}
	}
}

// A set-uid program runs as who runs it.
func TestSetUIDProgramGivesNothing(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "isolate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // for the other user
		t.Fatal(err)
	}
	each(t, func(t *testing.T, u user) {
		if os.Getuid() != 0 {
			t.Skip("needs root, to make a program another user's")
		}
		file, owner := filepath.Join(dir, u.name), 65534-u.uid
		if out, err := exec.CommandContext(t.Context(), "install", "-m", "4755", "-o", fmt.Sprint(owner), "/usr/bin/id", file).CombinedOutput(); err != nil { //nolint:gosec // a path of this test
			t.Fatalf("%v: %s", err, out)
		}
		if got := shell(t, u, Options{}, file+" -u"); got.out != fmt.Sprintln(u.uid) {
			t.Errorf("%+v", got)
		}
	})
}
