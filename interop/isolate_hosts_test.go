//go:build interop

package interop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// A host beyond loopback that has a PostgreSQL, and its name for the machine's name server.
const (
	databaseAddr = "10.77.0.2"
	databaseNet  = "10.77.0.0/24"
	databaseName = "db.internal.example"
	databasePort = "5432"
	redisPort    = "6379"
)

// postgres returns the directory of PostgreSQL's programs, which Debian has not in PATH.
func postgres(t *testing.T) string {
	t.Helper()
	list, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(list) == 0 {
		t.Fatalf("no PostgreSQL: %v", err)
	}
	return filepath.Dir(list[len(list)-1])
}

// startPostgres starts a PostgreSQL on a host of its own, which a network joins to this one.
func startPostgres(t *testing.T, programs string) {
	t.Helper()
	data := filepath.Join(dir, "postgres")
	asPostgres := []string{"setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"}
	system(t, "", "install", "-d", "-o", "postgres", "-m", "700", data)
	system(t, "", append(asPostgres, programs+"/initdb", "-D", data, "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8")...)
	system(t, "host all all "+databaseNet+" trust\n", "tee", "-a", data+"/pg_hba.conf")
	host := start(t, nil, "unshare", append([]string{"--net", "sh", "-ec", `
ip link set lo up
until ip link show db1 >/dev/null 2>&1; do sleep 0.02; done
ip address add ` + databaseAddr + `/24 dev db1
ip link set db1 up
exec "$@"`, "host"}, append(asPostgres, programs+"/postgres", "-D", data, "-k", "", "-h", databaseAddr, "-p", databasePort, "-F", "-c", "log_connections=on")...)...)
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, testkit.Patience, "the host has a network of its own", func() bool {
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", host.pid))
		return err == nil && its != own
	})
	system(t, "", "ip", "link", "add", "db0", "type", "veth", "peer", "name", "db1", "netns", strconv.Itoa(host.pid))
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", "db0").Run() }) // gone with the host, or soon
	system(t, "", "ip", "address", "add", "10.77.0.1/24", "dev", "db0")
	system(t, "", "ip", "link", "set", "db0", "up")
	testkit.Eventually(t, testkit.Patience, "PostgreSQL is ready", func() bool {
		return exec.Command(programs+"/pg_isready", "-q", "-h", databaseAddr, "-p", databasePort).Run() == nil
	})
}

// TestIsolatedHosts has clients of a feed's own PostgreSQL and Redis run under exec --isolate.
//
// Promise (security): Under proxyd exec --isolate, hosts and ports of the operator are reached by --allow, --host-port and routes alone, and the last lines count and name them
func TestIsolatedHosts(t *testing.T) {
	if os.Getenv("CLIENTS_DIR") != "" {
		t.Skip("run by interop/run.sh")
	}
	programs := postgres(t)
	startPostgres(t, programs)
	log := serveDNS(t, map[string]string{databaseName + ".": databaseAddr})
	start(t, nil, "redis-server", "--bind", "127.0.0.1", "--port", redisPort, "--save", "", "--dir", dir)
	testkit.Eventually(t, testkit.Patience, "Redis is ready", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+redisPort)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	gateway := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": databaseAddr + ":" + databasePort}})
	const base = "watch: false\ndefault: reject\n"
	none := file(t, "hosts-none.yaml", base)
	routed := file(t, "hosts-routed.yaml", base+fmt.Sprintf("pools: {gateway: {proxies: [{name: gateway-1, url: %q}]}}\nroutes: [{hosts: [%s], use: gateway}]\n", gateway.URL(), databaseNet))

	psql := func(host string) string {
		return programs + "/psql -X -w -h " + host + " -p " + databasePort + " -U postgres -d postgres -Atc 'SELECT 6 * 7'\n"
	}
	const ping = "redis-cli -p " + redisPort + " ping\n"
	const noRedis = "Could not connect to Redis at 127.0.0.1:" + redisPort + ": Connection refused"
	for _, c := range []struct {
		name, config string
		flags        []string
		script, out  string
		lines        []string // all of the last ones, as expressions
	}{
		{"PostgreSQL, --allow CIDR", none, []string{"--allow", databaseNet}, psql(databaseAddr), "42\n",
			[]string{`1 connection through direct \(.*\)`, `directly, by --allow 10\.77\.0\.0/24: 1 connection to 10\.77\.0\.2:5432`}},
		{"PostgreSQL, --allow ADDRESS", none, []string{"--allow", databaseAddr}, psql(databaseAddr), "42\n",
			[]string{`1 connection through direct \(.*\)`, `directly, by --allow 10\.77\.0\.2: 1 connection to 10\.77\.0\.2:5432`}},
		{"PostgreSQL, --allow NAME", none, []string{"--allow", databaseName}, psql(databaseName) + psql(databaseName), "42\n42\n",
			[]string{`2 connections through direct \(.*\)`, `directly, by --allow db\.internal\.example: 2 connections to db\.internal\.example:5432`}},
		{"PostgreSQL, a route of the file", routed, nil, psql(databaseAddr), "42\n",
			[]string{`1 connection through gateway-1 \(.*\)`}},
		{"PostgreSQL, --allow before a route of the file", routed, []string{"--allow", databaseNet}, psql(databaseAddr), "42\n",
			[]string{`1 connection through direct \(.*\)`, `directly, by --allow 10\.77\.0\.0/24: 1 connection to 10\.77\.0\.2:5432`}},
		{"PostgreSQL, of no rule", none, nil, psql(databaseAddr) + psql(databaseName), "",
			[]string{`refused, 1 time: .*10\.77\.0\.2.*`, `refused, 1 time: .*db\.internal\.example.*`, `2 refused`}},
		{"PostgreSQL, --allow, a closed port", none, []string{"--allow", databaseNet}, strings.Replace(psql(databaseAddr), "-p "+databasePort, "-p 9", 1), "",
			[]string{`refused, 1 time: 10\.77\.0\.2:9: direct was refused by the target`, `1 refused`}},
		{"Redis, --host-port, a closed port", none, []string{"--host-port", "9"}, strings.Replace(ping, redisPort, "9", 1), "",
			[]string{`--host-port 9: 0 connections, [12] refused: nothing listened on that port of this machine's loopback`}}, // redis-cli may try again
		{"Redis, --host-port", none, []string{"--host-port", redisPort}, ping + ping, "PONG\nPONG\n",
			[]string{`--host-port 6379: 2 connections, 0 refused`}},
		{"Redis, of no --host-port", none, nil, ping, "",
			[]string{`warning: nothing came through proxyd: the command opened no connection but to its own loopback`, `the command connected to its own loopback, where nothing listened on 6379; if that is a server of this machine: --host-port 6379`}},
		{"PostgreSQL and Redis", routed, []string{"--host-port", redisPort, "--allow", databaseName}, psql(databaseAddr) + psql(databaseName) + ping, "42\n42\nPONG\n",
			[]string{`1 connection through gateway-1 \(.*\), 1 connection through direct \(.*\)`, `directly, by --allow db\.internal\.example: 1 connection to db\.internal\.example:5432`, `--host-port 6379: 1 connection, 0 refused`}},
	} {
		run(t, "isolated, "+c.name, func(t *testing.T) {
			before := len(gateway.Asked())
			m := machine{kubernetes, "", 65534, nil}
			r := m.isolated(t, "hosts-"+regexp.MustCompile(`[^A-Za-z]+`).ReplaceAllString(c.name, "-"), append([]string{"-c", c.config}, c.flags...), "sh", "-c", c.script)
			if r.out != c.out || (r.code == 0) != (c.out != "") {
				t.Errorf("exit code %d: %q, want %q\n%s", r.code, r.out, c.out, r.errors)
			}
			var said []string
			for line := range strings.Lines(r.errors) {
				if text, ok := strings.CutPrefix(line, "proxyd: exec: "); ok && !strings.HasPrefix(text, "a network of its own") {
					said = append(said, strings.TrimSuffix(text, "\n"))
				}
			}
			if want := "^" + strings.Join(c.lines, "\n") + "$"; !regexp.MustCompile(want).MatchString(strings.Join(said, "\n")) {
				t.Errorf("the last lines are\n%s\nwant\n%s", strings.Join(said, "\n"), want)
			}
			if asked := gateway.Asked()[before:]; (len(asked) > 0) != strings.Contains(strings.Join(said, "\n"), "gateway-1") {
				t.Errorf("the upstream was asked %+v", asked)
			}
			if strings.Contains(c.name, "of no --host-port") && !strings.Contains(r.errors, noRedis) {
				t.Errorf("redis-cli says %s", r.errors)
			}
		})
	}
	for _, name := range log.asked() {
		if !strings.HasPrefix(name, databaseName+".") { // the machine's search is proxyd's
			t.Errorf("the machine's name server was asked for %s", name)
		}
	}
}
