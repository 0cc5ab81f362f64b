package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// command runs one of the binary's beside a running daemon, with its file.
func (p *process) command(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(binary(t), append(args, "-c", p.File)...)
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// What an operator does with a running daemon, command by command.
func TestAnOperatorAndARunningDaemon(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}})
	socket := filepath.Join(t.TempDir(), "admin")
	good := loopback + "watch: false\nadmin: unix:" + socket + "\nexchanges: {binance: {url: \"" + up.URL() + "\"}}\ndefault: reject\n"
	p := launch(t, "", good)
	live := p.tunnel(t, "api.binance.com:443")

	says := func(code int, want []string, args ...string) string {
		t.Helper()
		out, got := p.command(t, args...)
		if got != code {
			t.Errorf("proxyd %v: exit code %d, want %d", args, got, code)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("proxyd %v: no %q in\n%s", args, w, out)
			}
		}
		return out
	}
	if out := says(0, []string{"binance", up.Addr}, "status"); !strings.HasPrefix(out, "ok") {
		t.Errorf("the first line of status is not ok:\n%s", out)
	}
	says(0, []string{"ok"}, "health", "--ready")
	says(0, []string{"no change"}, "reload")
	says(0, []string{"exchanges.binance", up.Addr}, "route", "--live", "api.binance.com")

	save := func(yaml string) { saving(withListen(yaml))(t, p.File) }
	save(strings.Replace(good, "default: reject", "default: direct", 1))
	says(0, []string{"~ default: reject → direct"}, "reload", "--dry-run")
	says(1, []string{"refused"}, "route", "--live", "api.kraken.com")
	says(0, []string{"~ default: reject → direct"}, "reload")
	says(0, []string{"direct"}, "route", "--live", "api.kraken.com")
	inForce := p.admin(t, socket, "/api/v1/config")
	for _, want := range []string{`"applied": true`, `"by": "admin"`, "~ default: reject → direct", `"in_force": true`, `default:\n    http:\n        url: direct`} {
		if !strings.Contains(inForce, want) {
			t.Errorf("/api/v1/config has no %s:\n%s", want, inForce)
		}
	}

	save(strings.Replace(good, "default: reject", "default: rejct", 1))
	says(1, []string{"proxyd.yaml:", "default"}, "reload")
	if out := says(0, nil, "status"); !strings.HasPrefix(out, "FILE NOT IN FORCE: ") || !strings.Contains(strings.SplitN(out, "\n", 2)[0], "proxyd.yaml:") {
		t.Errorf("the first line of status is not the bad news:\n%s", out)
	} else if !regexp.MustCompile(` \(since \d\d:\d\d:\d\d\)\n`).MatchString(out) {
		t.Errorf("it does not say since when:\n%s", out)
	}
	if body := p.admin(t, socket, "/readyz"); !strings.Contains(body, "NOT IN FORCE") {
		t.Errorf("/readyz says %q", body)
	}
	refused := p.admin(t, socket, "/api/v1/config")
	since := regexp.MustCompile(`"faults_since": "[^"]+"`)
	says(1, nil, "reload")
	if first, again := since.FindString(refused), since.FindString(p.admin(t, socket, "/api/v1/config")); first == "" || first != again {
		t.Errorf("it is not in force since %q, and after another try since %q", first, again)
	}
	for _, want := range []string{`"applied": false`, `"in_force": false`, "proxyd.yaml:", `default:\n    http:\n        url: direct`} {
		if !strings.Contains(refused, want) {
			t.Errorf("/api/v1/config has no %s after a refused reload:\n%s", want, refused)
		}
	}
	metrics := p.admin(t, socket, "/metrics")
	for _, want := range []string{
		"proxyd_config_last_reload_successful 0", `proxyd_config_reloads_total{result="refused"} 2`,
		`proxyd_tunnels_active{exchange="binance",kind="http",upstream="` + up.Addr + `"} 1`,
		`proxyd_tunnel_bytes_total{direction="up",exchange="binance",kind="http",upstream="` + up.Addr + `"} 11`, // "still here?"
		"proxyd_build_info{", "proxyd_log_dropped_total 0",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if none := `proxyd_connections_total{protocol="connect"} 0`; strings.Contains(metrics, none) {
		t.Errorf("/metrics has %s", none)
	}
	works(live)
}

// admin asks the admin server on a unix socket.
func (p *process) admin(t *testing.T, socket, path string) string {
	t.Helper()
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	r, err := c.Get("http://localhost" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The built-in admin address is one for a machine; a second daemon must not fail
// for that, while an address that is written must be had.
func TestAnAdminAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	taken := testkit.NewTCP(t, testkit.Echo).Addr
	file := filepath.Join(t.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:0\nadmin: "+taken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary(t), "run", "-c", file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "admin "+taken+": the address is taken") {
		t.Errorf("%v, %s", err, out)
	}
}
