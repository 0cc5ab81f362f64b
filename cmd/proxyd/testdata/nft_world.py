"""Applies what `proxyd nft` prints, twice, in a network namespace that is joined to
another, the world, and connects as the service and as another. Arguments: the program,
a resolv.conf, the service's user, the other's, the service's cgroup or "", and those of
`proxyd nft`. It prints a line for each: what every connection came to.
"""
import ctypes, os, socket, subprocess, sys, threading, time

proxyd, resolv, service, other, cgroup, args = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6:]
V4, V6, TCP, UDP = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM


def run(lines):
    for line in lines.strip().splitlines():
        subprocess.run(line.split(), check=True)


def serve(family, address, port, word):
    """Greets with a word, and answers each piece with it."""
    listener = socket.create_server((address, port), family=family)

    def answer(c):
        try:
            while True:
                c.sendall(word)
                if not c.recv(99):
                    return
        except OSError:
            pass

    def accept():
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


def serve_udp(family, address, port):
    s = socket.socket(family, UDP)
    if family == V6:
        s.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND: a route makes the address local
    s.bind((address, port))

    def answer():
        while True:
            s.sendto(b"world", s.recvfrom(99)[1])
    threading.Thread(target=answer, daemon=True).start()


def world(ready, go):
    """What is beyond the machine: whatever comes here has left it."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(ready, b"1")
    os.read(go, 1)
    run("""ip link set lo up
ip addr add 198.51.100.1/24 dev w0
ip -6 addr add 2001:db8:1::1/64 dev w0 nodad
ip link set w0 up
ip route add local 203.0.113.0/24 dev lo
ip -6 route add local 2001:db8:7::/48 dev lo""")
    for port in 53, 80, 443:
        serve(V4, "0.0.0.0", port, b"world")
        serve(V6, "::", port, b"world")
    for family, address, port in (V4, "203.0.113.7", 443), (V6, "2001:db8:7::7", 443), (V4, "203.0.113.53", 53), (V4, "203.0.113.54", 53):
        serve_udp(family, address, port)
    os.write(ready, b"2")
    threading.Event().wait()


def said(s):
    s.settimeout(10)
    return s.recv(9).decode() or "closed"


def tried(what, *rest):
    begin = time.monotonic()
    try:
        result = what(*rest)
    except (PermissionError, ConnectionRefusedError):
        result = "rejected"
    except ConnectionResetError:
        result = "reset"
    except OSError as e:
        result = type(e).__name__
    return result if time.monotonic() - begin < 5 else result + ",late"


def connect(kind, family, host, port):
    s = socket.socket(family, kind)
    s.settimeout(10)
    s.connect((host, port))
    if kind == UDP:
        s.send(b"x")
    return s


PROBES = {
    "tcp4": lambda: said(connect(TCP, V4, "203.0.113.7", 443)),
    "tcp6": lambda: said(connect(TCP, V6, "2001:db8:7::7", 443)),
    "local": lambda: said(connect(TCP, V4, "127.0.0.1", 80)),
    "own": lambda: said(connect(TCP, V4, "198.51.100.2", 80)),
    "except": lambda: said(connect(TCP, V4, "203.0.113.99", 443)),
    "udp4": lambda: said(connect(UDP, V4, "203.0.113.7", 443)),
    "udp6": lambda: said(connect(UDP, V6, "2001:db8:7::7", 443)),
    "dns": lambda: said(connect(UDP, V4, "203.0.113.53", 53)),
    "dnstcp": lambda: said(connect(TCP, V4, "203.0.113.53", 53)),
    "otherdns": lambda: said(connect(UDP, V4, "203.0.113.54", 53)),
}


class Program:
    """A process as a user, in the cgroup."""

    def __init__(self, uid):
        self.uid, (self.commands, command) = uid, os.pipe()[::-1]
        self.answers, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for p in programs:
                os.close(p.commands)
            os.close(self.commands)
            if cgroup and uid == service:
                with open(cgroup + "/cgroup.procs", "w") as f:
                    f.write(str(os.getpid()))
            os.setgroups([]), os.setgid(uid), os.setuid(uid)
            before = [connect(TCP, f, h, 80) for f, h in ((V4, "203.0.113.7"), (V6, "2001:db8:7::7"))]
            for s in before:
                said(s)
            kept = []
            os.write(answer, b"began\n")
            for line in os.fdopen(command):
                if line == "probe\n":
                    result = ["before=" + ask(s) for s in before] + ["%s=%s" % (n, tried(p)) for n, p in PROBES.items()]
                    kept = [connect(TCP, f, h, 80) for f, h in ((V4, "203.0.113.7"), (V6, "2001:db8:7::7"))]
                    for s in kept:
                        said(s)
                else:
                    result = [ask(s) for s in kept]
                os.write(answer, (" ".join(result) + "\n").encode())
            os._exit(0)
        self.answered = os.fdopen(self.answers)
        assert self.answered.readline() == "began\n"

    def ask(self, line):
        os.write(self.commands, line.encode() + b"\n")
        return self.answered.readline().strip()


def ask(s):
    def asked():
        s.sendall(b"x")
        return said(s)
    return tried(asked)


def load():
    subprocess.run(["sh", "-c", '"$@" | nft -f -', "sh", proxyd, "nft", *args], check=True)


ready, began = os.pipe()
go, going = os.pipe()
pid = os.fork()
if pid == 0:
    world(began, go)
os.close(began)
programs = []
try:
    run("""mount --make-rprivate /
mount --bind %s /etc/resolv.conf
mount -t cgroup2 none /sys/fs/cgroup""" % resolv)
    assert os.read(ready, 1)
    run("""ip link set lo up
ip link add d0 type veth peer name w0
ip link set w0 netns %d
ip addr add 198.51.100.2/24 dev d0
ip -6 addr add 2001:db8:1::2/64 dev d0 nodad
ip link set d0 up
ip route add default via 198.51.100.1
ip -6 route add default via 2001:db8:1::1""" % pid)
    os.write(going, b"1")
    assert os.read(ready, 1)
    if cgroup:
        os.makedirs(cgroup)
    for uid in service, other:
        programs.append(Program(uid))
    serve(V4, "127.0.0.1", 8879, b"proxyd")
    serve(V6, "::1", 8879, b"proxyd")
    serve(V4, "0.0.0.0", 80, b"local")
    load()
    for p in programs:
        print(p.uid, p.ask("probe"))
    load()
    print("loaded again:", *(p.ask("kept") for p in programs))
    run("nft delete table inet proxyd")
    print("taken back:", *(p.ask("probe").split()[2] for p in programs))
finally:
    os.kill(pid, 9)
    for p in programs:
        os.close(p.commands)
        os.waitpid(p.pid, 0)
    if cgroup and os.path.isdir(cgroup):
        os.removedirs(cgroup)
