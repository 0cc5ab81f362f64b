package isolate

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// machine runs a script as root in a mount namespace of its own, with a copy of /etc, and
// in it a command isolated: $RUN script, as the user.
func machine(t *testing.T, u user, prepare, script string) outcome {
	t.Helper()
	if os.Getuid() != 0 {
		testkit.Lacks(t, "root, to change /etc in a namespace")
	}
	for _, tool := range []string{"unshare", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			testkit.Lacks(t, tool)
		}
	}
	text, err := json.Marshal(run{Args: []string{"sh", "-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	id := map[uint32]string{0: "0", 65534: "65534"}[u.uid]
	setup := `set -e
mount -t tmpfs tmpfs /mnt; cp -a /etc /mnt/etc; chmod 755 /mnt; mount --bind /mnt/etc /etc
` + prepare + `
exec setpriv --reuid ` + id + ` --regid ` + id + ` --clear-groups ` + program(t)
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", "-u", "--propagation", "private", "sh", "-c", setup)
	cmd.Env = append(os.Environ(), "ISOLATE_TEST_RUN="+string(text))
	cmd.Dir = "/"
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // its code is in the outcome
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// Promise (security): names resolve to what the program asked for, whatever the machine's resolv.conf is, and no other resolver of the machine is asked.
func TestNamesOfAnyResolvConf(t *testing.T) {
	t.Parallel()
	const kubernetes = `printf 'search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n' > `
	for name, prepare := range map[string]string{
		"file of Kubernetes":      `rm -f /etc/resolv.conf; ` + kubernetes + `/etc/resolv.conf`,
		"symlink":                 `rm -f /etc/resolv.conf; ` + kubernetes + `/etc/real.conf; ln -s real.conf /etc/resolv.conf`,
		"symlink to /run":         `mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/resolve; ` + kubernetes + `/run/systemd/resolve/stub-resolv.conf; rm -f /etc/resolv.conf; ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf`,
		"dangling symlink":        `rm -f /etc/resolv.conf; ln -s /run/nothing/resolv.conf /etc/resolv.conf`,
		"none":                    `rm -f /etc/resolv.conf`,
		"none, nor nsswitch":      `rm -f /etc/resolv.conf /etc/nsswitch.conf`,
		"host name with a domain": `hostname feed1.example.com; ` + kubernetes + `/etc/resolv.conf`,
		"nsswitch with resolve":   kubernetes + `/etc/resolv.conf; printf 'hosts: resolve [!UNAVAIL=return] mdns4_minimal [NOTFOUND=return] dns\n' > /etc/nsswitch.conf`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, u user) {
				got := machine(t, u, prepare, `getent ahostsv4 stream.binance.com | head -1; getent ahosts kafka || echo none; test -e /etc/resolv.conf && (echo >>/etc/resolv.conf) 2>/dev/null && echo written; exec /usr/bin/python3 -c '`+prelude+`
print(line("api.binance.com", 443))'`)
				want := "198.18.1.0      STREAM stream.binance.com\nnone\nto 198.18.1.1:443 api.binance.com\n"
				if got.out != want {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// The sockets of other resolvers are not there.
func TestSocketsOfResolversAreHidden(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, u user) {
		got := machine(t, u, `mount -t tmpfs tmpfs /run; chmod 755 /run; mkdir -p /run/nscd /run/systemd/resolve
/usr/bin/python3 -c '
import socket
for at in "/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve":
    socket.socket(socket.AF_UNIX).bind(at)'
ls /run/nscd /run/systemd/resolve`, `ls /run/nscd /run/systemd/resolve; cat /run/systemd/resolve/stub-resolv.conf`)
		want := "/run/nscd:\nsocket\n\n/run/systemd/resolve:\nio.systemd.Resolve\n" + // before
			"/run/nscd:\n\n/run/systemd/resolve:\nresolv.conf\nstub-resolv.conf\n" + resolvConf
		if got.out != want {
			t.Errorf("%+v", got)
		}
	})
}

// A query to any server, over UDP and TCP, is answered by the resolver.
func TestQueryToAnyServerIsAnswered(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, u user) {
		got := python(t, u, Options{}, `
import struct
def query(kind, name=b"\x06stream\x07binance\x03com\x00"):
    return b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + name + struct.pack(">HH", kind, 1)
def udp(family, host, kind, *name):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(5); s.connect((host, 53)); s.send(query(kind, *name)); return s.recv(999)
def tcp(host, kind):
    s = socket.create_connection((host, 53), 5); q = query(kind); s.sendall(struct.pack(">H", len(q)) + q); f = s.makefile("rb"); return f.read(struct.unpack(">H", f.read(2))[0])
for answer in udp(socket.AF_INET, "8.8.8.8", 1), udp(socket.AF_INET6, "2001:4860:4860::8888", 1), udp(socket.AF_INET, "127.0.0.53", 1), tcp("1.1.1.1", 1):
    print(answer[3] & 15, socket.inet_ntoa(answer[-4:]))
for kind in 28, 64, 65, 16, 255: # AAAA, SVCB, HTTPS, TXT, ANY
    for answer in udp(socket.AF_INET, "8.8.8.8", kind), tcp("2001:4860:4860::8888", kind):
        print(kind, answer[3] & 15, struct.unpack(">H", answer[6:8])[0])
print(udp(socket.AF_INET, "8.8.8.8", 1, b"\x05kafka\x00")[3] & 15)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.sendto(query(1), ("8.8.8.8", 53)); print(s.recvfrom(999)[1])
`)
		want := strings.Repeat("0 198.18.1.0\n", 4)
		for _, kind := range []string{"28", "64", "65", "16", "255"} {
			want += strings.Repeat(kind+" 0 0\n", 2)
		}
		if want += "3\n('8.8.8.8', 53)\n"; got.out != want {
			t.Errorf("%+v", got)
		}
	})
}

// A resolv.conf that the host puts in the stead of its own uncovers itself inside: a
// renamed file takes the mount with it. Names are still those that were asked for.
func TestNamesOfAReplacedResolvConf(t *testing.T) {
	t.Parallel()
	const kubernetes = `printf 'search data.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n' > `
	for name, prepare := range map[string]string{
		"file":    `cp -L --remove-destination /etc/resolv.conf /etc/other; mv /etc/other /etc/resolv.conf`,
		"symlink": `rm -f /etc/resolv.conf; ln -s /etc/hostname /etc/resolv.conf`,
		"none":    `rm -f /etc/resolv.conf`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, u user) {
				got := machine(t, u, `mkdir -p /mnt/flags; chmod 777 /mnt/flags; `+prepare+`
(while ! [ -e /mnt/flags/go ]; do sleep 0.02; done; `+kubernetes+`/etc/next; mv /etc/next /etc/resolv.conf; touch /mnt/flags/done) &`, `exec /usr/bin/python3 -c '`+prelude+`
print(line("api.binance.com", 443))
open("/mnt/flags/go", "w").close()
while not os.path.exists("/mnt/flags/done"): time.sleep(0.02)
import subprocess
assert b"ndots:5" in subprocess.run(["cat", "/etc/resolv.conf"], capture_output=True).stdout # the host has done it
print(line("stream.binance.com", 443))
print(line("kafka.data.svc.cluster.local", 443))
print(line("api.binance.com", 443))
print(line("stream.binance.com", 443))
try: print(line("redis", 443))
except socket.gaierror: print("none")'`)
				want := `to 198.18.1.0:443 api.binance.com
to 198.18.1.1:443 stream.binance.com
to 198.18.1.2:443 kafka.data.svc.cluster.local
to 198.18.1.0:443 api.binance.com
to 198.18.1.1:443 stream.binance.com
none
`
				if got.out != want {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}
