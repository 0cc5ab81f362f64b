//go:build interop

package interop

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"proxyd/internal/testkit"
)

// Where these tests have a name server, and what a resolv.conf of Kubernetes makes of names.
const (
	nameServer = "127.0.0.5"
	kubernetes = "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver " + nameServer + "\noptions ndots:5\n"
)

// machine is a machine whose /etc and /run are its own: proxyd exec --isolate runs there.
type machine struct {
	resolvConf string
	prepare    string // a script of root's, in /etc, after resolv.conf is written
	uid        int
	environ    []string
}

// isolatedRun is what a command left.
type isolatedRun struct {
	out, errors string
	code        int
}

// isolated runs a command in the machine. $GO is a file that starts what the machine waits for,
// $DONE one that says that it is done.
func (m machine) isolated(t *testing.T, name string, flags []string, command ...string) isolatedRun {
	own := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Join(own, "flags"), 0o755); err != nil {
		t.Error(err)
		return isolatedRun{}
	}
	script := `set -e
umask 022
mkdir "$OWN/etc"
mount -t tmpfs -o mode=755 tmpfs "$OWN/etc"
cp -a /etc/. "$OWN/etc"
mount --bind "$OWN/etc" /etc
mount -t tmpfs -o mode=755 tmpfs /run
chmod 777 "$OWN/flags"
cd /etc
echo '127.0.0.1 localhost' >hosts
echo 'hosts: files dns' >nsswitch.conf
rm -f resolv.conf
printf '%s' "$RESOLV_CONF" >resolv.conf
` + m.prepare + `
cd /
rc=0
setpriv --reuid "$ID" --regid "$ID" --clear-groups "$@" || rc=$?
for p in $(jobs -p); do kill "$p" || :; done
exit $rc`
	args := append([]string{"--mount", "--uts", "--propagation", "private", "bash", "-c", script, "machine", os.Getenv("INTEROP_PROXYD"), "exec"}, flags...)
	cmd := exec.Command("unshare", append(append(args, "--isolate", "--no-shim", "--"), command...)...)
	cmd.Env = append(os.Environ(), "OWN="+own, "RESOLV_CONF="+m.resolvConf, fmt.Sprint("ID=", m.uid), "GO="+filepath.Join(own, "flags", "go"), "DONE="+filepath.Join(own, "flags", "done"))
	cmd.Env = append(cmd.Env, m.environ...)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	_ = cmd.Run() // its code is kept
	return isolatedRun{out.String(), errors.String(), cmd.ProcessState.ExitCode()}
}

// greeter returns a server that speaks first.
func greeter(t *testing.T) string {
	t.Helper()
	return testkit.NewTCP(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 ready\n")
		testkit.Hang(c)
	}).Addr
}

// nameLog has the names that a name server was asked for.
type nameLog struct {
	mu   sync.Mutex
	list []string
}

func (l *nameLog) asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

// serveDNS is the machine's name server. It knows hosts, whose names end in a dot, and no others.
func serveDNS(t *testing.T, hosts map[string]string) *nameLog {
	t.Helper()
	l := new(nameLog)
	answerQueries(t, nameServer+":53", func(query []byte, _ net.Addr) []byte {
		name, answer := answerTo(query)
		l.mu.Lock()
		l.list = append(l.list, name)
		l.mu.Unlock()
		switch address, known := hosts[name]; {
		case len(answer) < 28: // no question
		case !known:
			answer[3] |= 3 // NXDOMAIN
			if answer[7] > 0 {
				answer[7], answer = 0, answer[:len(answer)-16]
			}
		case answer[7] > 0:
			copy(answer[len(answer)-4:], net.ParseIP(address).To4())
		}
		return answer
	})
	return l
}

// resolvers builds the programs that resolve, and returns a script that runs them all.
func resolvers(t *testing.T) (script string) {
	t.Helper()
	const source = "interop/testdata/resolve/"
	own := filepath.Join(dir, "resolvers")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	var built sync.WaitGroup
	for _, argv := range [][]string{
		{"gcc", "-o", own + "/glibc", source + "resolve.c"},
		{"musl-gcc", "-static", "-o", own + "/musl", source + "resolve.c"},
		{"go", "build", "-o", own + "/go", source + "main.go"},
		{"javac", "-d", own, source + "Resolve.java"},
		{"install", "-m", "644", source + "resolve.py", own},
	} {
		built.Go(func() { // each ends by itself
			if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
			}
		})
	}
	built.Wait()
	if t.Failed() {
		t.FailNow()
	}
	const to = " stream.binance.com 9443 kafka\n"
	for _, p := range [][2]string{
		{"glibc", own + "/glibc"}, {"musl", own + "/musl"}, {"Go", "GODEBUG=netdns=go " + own + "/go"}, {"Go with cgo", "GODEBUG=netdns=cgo " + own + "/go"},
		{"Python", "/usr/bin/python3 -I " + own + "/resolve.py"}, {"Java", "java -XX:TieredStopAtLevel=1 -Xshare:auto -cp " + own + " Resolve"},
	} {
		script += "echo -n '" + p[0] + ": '; " + p[1] + to
	}
	return script
}

// resolved is what the script of resolvers prints.
const resolved = `glibc: 198.18.1.0 none 220 ready
musl: 198.18.1.0 none 220 ready
Go: 198.18.1.0 none 220 ready
Go with cgo: 198.18.1.0 none 220 ready
Python: 198.18.1.0 none 220 ready
Java: 198.18.1.0 none 220 ready
`

// machines are those in which the resolvers run.
func machines() map[string]machine {
	const nobody = 65534
	// nscd has an address of the name from a hosts file of before.
	const nscd = `mkdir /run/nscd
mount -t tmpfs tmpfs /var/cache/nscd
sed -i 's/^\(.*check-files[[:space:]]*hosts[[:space:]]*\)yes/\1no/' nscd.conf
cp hosts hosts.new
echo '203.0.113.99 stream.binance.com' >>hosts
nscd -F &
for i in $(seq 500); do [ -S /run/nscd/socket ] && break; sleep 0.02; done
getent ahosts stream.binance.com >/dev/null
cat hosts.new >hosts
echo "nscd: $(getent ahosts stream.binance.com | head -n 1)"
`
	// What the host does once the command runs.
	const replaced = `(while ! [ -e "$GO" ]; do sleep 0.02; done; printf '%s' "$RESOLV_CONF" >next; mv next resolv.conf; touch "$DONE") &
`
	return map[string]machine{
		"nscd, root":            {kubernetes, nscd, 0, nil},
		"nscd":                  {kubernetes, nscd, nobody, nil},
		"symlink":               {kubernetes, "mv resolv.conf real.conf; ln -s real.conf resolv.conf", nobody, nil},
		"dangling symlink":      {kubernetes, "ln -sf /run/none resolv.conf", nobody, nil},
		"none":                  {kubernetes, "rm resolv.conf", nobody, nil},
		"replaced":              {kubernetes, replaced, nobody, nil},
		"replaced, none before": {kubernetes, "rm resolv.conf; " + replaced, nobody, nil},
		"environment, domain":   {kubernetes, "hostname feed1.example.com", nobody, []string{"LOCALDOMAIN=ns.svc.cluster.local", "RES_OPTIONS=ndots:9"}},
	}
}

// TestIsolatedResolvers has the resolvers of C libraries and languages look names up
// under exec --isolate.
//
// Promise (security): Under proxyd exec --isolate, glibc with nscd, musl, Go, Java and Python resolve the names that they are given, whatever the machine's resolv.conf is
func TestIsolatedResolvers(t *testing.T) {
	if os.Getenv("CLIENTS_DIR") != "" {
		t.Skip("run by interop/run.sh")
	}
	script, server, log := resolvers(t), greeter(t), serveDNS(t, nil)
	type result struct {
		isolatedRun
		asked []testkit.Asked
	}
	results, list := map[string]*result{}, machines()
	var ended sync.WaitGroup
	atOnce := make(chan struct{}, 3)
	for name, m := range list {
		r := new(result)
		results[name] = r
		upstream := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": server}})
		yaml := file(t, "resolvers-"+strings.NewReplacer(" ", "-", ",", "").Replace(name)+".yaml", fmt.Sprintf("watch: false\ndefault: reject\npools: {exit: {proxies: [{name: exit-1, url: %q}]}}\nexchanges: {binance: {pool: exit}}\n", upstream.URL()))
		wait := ""
		if strings.HasPrefix(name, "replaced") {
			wait = `touch "$GO"; while ! [ -e "$DONE" ]; do sleep 0.02; done; grep -q ndots:5 /etc/resolv.conf || echo not replaced` + "\n"
		}
		ended.Go(func() { // ends with its command
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			r.isolatedRun = m.isolated(t, strings.TrimSuffix(filepath.Base(yaml), ".yaml"), []string{"-c", yaml}, "sh", "-c", wait+script)
			r.asked = upstream.Asked()
		})
	}
	ended.Wait()
	for name := range list {
		run(t, "resolvers, isolated, "+name, func(t *testing.T) {
			r, want := results[name], resolved
			if strings.HasPrefix(name, "nscd") {
				want = "nscd: 203.0.113.99    STREAM stream.binance.com\n" + want // before, outside
			}
			if r.out != want || r.code != 0 || !strings.Contains(r.errors, "exec: 6 connections through exit-1 ") {
				t.Errorf("exit code %d\n%s%s\nwant\n%s", r.code, r.out, r.errors, want)
			}
			for _, a := range r.asked {
				if a.Host != "stream.binance.com" || a.Port != "9443" {
					t.Errorf("the upstream was asked for %s:%s", a.Host, a.Port)
				}
			}
		})
	}
	if asked := log.asked(); len(asked) > 0 {
		t.Errorf("the machine's name server was asked for %q", asked)
	}
}
