//go:build !windows

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/testkit"
)

// newFleetMember is a daemon of a fleet that shares a budget.
func newFleetMember(t *testing.T, redis *testkit.Redis, exit *testkit.Proxy, more string) *grid {
	t.Helper()
	g := &grid{socket: t.TempDir() + "/admin"}
	g.process = launch(t, "", fmt.Sprintf(`fleet: {redis: %q, name: trading, hosts: 8}
pools: {asia: {proxies: [{name: tokyo-1, exit: tokyo-ip, url: %q}]}}
exchanges: {binance: {http: {pool: asia, limits: {connects: 300/5m, shared: true}}, websocket: asia}}
default: reject
%s`, redis.URL(), exit.URL(), more), "PROXYD_ADMIN=unix:"+g.socket)
	return g
}

// fleet asks a daemon for all hosts.
func (g *grid) fleet(t *testing.T) (r admin.FleetReport, body string) {
	t.Helper()
	body = g.admin(t, g.socket, "/api/v1/fleet")
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return r, body
}

func TestFleetIsSeenFromEveryHost(t *testing.T) {
	t.Parallel()
	redis := testkit.StartRedis(t)
	redis.Settle("trading")
	rest := newEdge(t)
	echo := testkit.NewTCP(t, testkit.Echo)
	exit := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"api.binance.com:80": rest.Addr, "*": echo.Addr}})
	a, b, c := newFleetMember(t, redis, exit, ""), newFleetMember(t, redis, exit, ""), newFleetMember(t, redis, exit, "log: {level: debug}\n")
	at := "unix:" + a.socket
	for range 3 {
		works(b.tunnel(t, "api.binance.com:443"))
	}
	works(a.tunnel(t, "api.binance.com:443"))
	rest.answer(http.StatusUnavailableForLegalReasons, "")
	(&fleetHost{b}).get(t)
	testkit.Eventually(t, testkit.Patience, "a sees the others, and what they use", func() bool {
		r, _ := a.fleet(t)
		return len(r.Processes) == 3 && len(r.Budgets) == 1 && r.Budgets[0].Used >= 4 && len(r.Verdicts) == 1
	})
	r, body := a.fleet(t)
	for _, p := range r.Processes {
		if here, differs := p.PID == a.Cmd.Process.Pid, p.PID == c.Cmd.Process.Pid; p.Here != here || p.ConfigDiffers != differs || p.Gone || p.Version == "" || time.Since(p.LastSeen) > 5*time.Second {
			t.Errorf("%+v", p)
		}
	}
	if x := r.Budgets[0]; x.Exit != "tokyo-ip" || x.Exchange != "binance" || x.Limit != "300 per 5 m" && x.Limit != "300/5m" {
		t.Errorf("%+v", x)
	}
	a.says(t, "fleet trading: 3 processes, 1 with another configuration", "status", "--fleet", "--admin", at)
	testkit.Eventually(t, testkit.Patience, "status shows the part in the fleet", func() bool {
		out, _ := a.command(t, "status", "--admin", at)
		return strings.Contains(inOneLine(out), "fleet 3 processes, Redis is used; proxyd status --fleet shows them")
	})
	a.says(t, "tokyo-ip binance http 300/5m", "status", "--fleet", "--admin", at)
	a.says(t, "tokyo-ip binance http geoblocked 4m", "status", "--fleet", "--admin", at)
	if out, code := a.command(t, "status", "--fleet", "--admin", at, "--format", "json"); code != 0 || !strings.Contains(out, `"verdict": "geoblocked"`) {
		t.Errorf("%d %s", code, out)
	}
	_ = c.Cmd.Process.Signal(syscall.SIGKILL)
	<-c.Done
	testkit.Eventually(t, 2*testkit.Patience, "the host that was killed is gone, and still shown", func() bool {
		r, _ := a.fleet(t)
		return len(r.Processes) == 2 || r.WorstFirst()[0].Gone // one of the same machine lives
	})
	_ = b.Cmd.Process.Signal(syscall.SIGTERM)
	<-b.Done
	testkit.Eventually(t, testkit.Patience, "one that has left is not shown", func() bool {
		r, _ := a.fleet(t)
		return len(r.Processes) == 1
	})
	redis.Kill()
	testkit.Eventually(t, testkit.Patience, "that Redis is gone is said", func() bool {
		out, _ := a.command(t, "status", "--fleet", "--admin", at)
		return strings.Contains(out, "Redis is not used here") && strings.Contains(out, "the other processes are as they were last read") && strings.Contains(inOneLine(out), "(here) own share")
	})
	_, last := a.fleet(t)
	sec := sectionOf(t, adminSections(t), "/api/v1/fleet")
	for _, w := range compareShapes(shapeOf(t, sec.examples...), shapeOf(t, body, last), sec.leftOut) {
		t.Errorf("docs/api.md: %s", w)
	}
	known := map[string]reflect.Type{}
	fields("", reflect.TypeFor[admin.FleetReport](), known)
	for _, l := range sec.leftOut {
		if known[l] == nil {
			t.Errorf("docs/api.md: %q is left out, and does not exist", l)
		}
	}
}

func TestHostWithoutAFleetSaysSo(t *testing.T) {
	t.Parallel()
	g := newGrid(t, testkit.NewExchange(t).HTTP, "")
	if out, code := g.command(t, "status", "--fleet"); code == 0 || !strings.Contains(out, "this host is alone") {
		t.Errorf("%d %s", code, out)
	}
}
