//go:build !windows

package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

// Two masters share the slots of a cluster; the exits of a fleet are on both.
func TestACluster(t *testing.T) {
	t.Parallel()
	var nodes []*testkit.Redis
	for range 2 {
		nodes = append(nodes, testkit.StartRedis(t, "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"))
	}
	host, port, _ := strings.Cut(nodes[1].Addr, ":")
	nodes[0].Do("CLUSTER", "ADDSLOTSRANGE", "0", "8000")
	nodes[1].Do("CLUSTER", "ADDSLOTSRANGE", "8001", "16383")
	nodes[0].Do("CLUSTER", "MEET", host, port)
	testkit.Eventually(t, 3*testkit.Patience, "the nodes know each other", func() bool {
		return strings.Contains(nodes[0].Do("CLUSTER", "INFO"), "cluster_slots_assigned:16384") && strings.Contains(nodes[1].Do("CLUSTER", "INFO"), "cluster_slots_assigned:16384")
	})
	url := nodes[0].URL() + "?addr=" + nodes[1].Addr
	m := newMember(t, url, limit.Limits{Connects: 2, Per: window.Per, MaxConnections: 10}, func(o *Options) { o.Hosts = 1 })
	testkit.Eventually(t, testkit.Patience, "it is used", func() bool { return m.fleet.State().Used })
	a, b := newHostBoard(t, url, "a"), newHostBoard(t, url, "b")
	a.Found(geoblocked(time.Minute))
	b.eventually(t, testkit.Patience, heardOfA)
	for i := range 6 { // exits on both nodes
		k := limit.Key{Exit: fmt.Sprint("exit-", i)}
		budgets := []*limit.Budget{m.table.Budget(k)}
		testkit.Eventually(t, feedTime+testkit.Patience, "Redis decides", func() bool { return !m.table.RowsOf(budgets)[0].Share.Alone })
		for n := range 3 {
			g, err := m.table.Acquire(t.Context(), 0, budgets)
			if (err == nil) != (n < 2) {
				t.Errorf("%s: grant %d of 2: %v", k.Exit, n+1, err)
			}
			g.Settle()
		}
	}
	if !m.fleet.State().Used {
		t.Error(m.fleet.State())
	}
}

// TLS is verified, and a certificate that is not trusted is an error.
func TestTLS(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		testkit.Lacks(t, "openssl")
	}
	dir := t.TempDir()
	key, cert := filepath.Join(dir, "key"), filepath.Join(dir, "cert")
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	port := strings.TrimPrefix(testkit.FreeAddr(t), "127.0.0.1:")
	testkit.StartRedis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no", "--requirepass", "geheim")
	url := "rediss://:geheim@127.0.0.1:" + port
	m := newMember(t, url, window, func(o *Options) { o.Hosts = 1 })
	if s := m.fleet.State(); s.Used || !strings.Contains(s.Why, "certificate") {
		t.Errorf("a certificate that is not trusted: %+v", s)
	}
	m = newMember(t, url+"?skip_verify=true", window, func(o *Options) { o.Hosts = 1 })
	testkit.Eventually(t, testkit.Patience, "it is used", func() bool { return m.fleet.State().Used })
	_ = os.Remove(key)
	wrong := newMember(t, strings.Replace(url, "geheim", "CANARY", 1)+"?skip_verify=true", window, nil)
	if s := wrong.fleet.State(); s.Used || strings.Contains(s.Why, "CANARY") || !strings.Contains(s.Why, "WRONGPASS") {
		t.Errorf("a wrong password: %+v", s)
	}
}
