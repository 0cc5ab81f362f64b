//go:build alerts

package deploy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// soon is more than two scrapes, an evaluation and a notification take on a busy machine.
const soon = 30 * time.Second

// program is a program that the test has started. It ends with the test.
type program struct {
	testkit.Output
	name string
}

func startProgram(t *testing.T, name string, args ...string) *program {
	t.Helper()
	p := &program{name: name}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, p.String())
		}
	})
	return p
}

// find waits for a line of the output and returns what its group has matched.
func (p *program) find(t *testing.T, pattern string) (found string) {
	t.Helper()
	line := regexp.MustCompile(pattern)
	testkit.Eventually(t, soon, p.name+" says "+pattern, func() bool {
		m := line.FindStringSubmatch(p.String())
		if m != nil {
			found = m[1]
		}
		return m != nil
	})
	return found
}

// write writes a file, a copy of another with some text replaced, and returns its path.
func write(t *testing.T, dir, name, text string, replace ...string) string {
	t.Helper()
	for i := 0; i < len(replace); i += 2 {
		old := regexp.MustCompile(replace[i])
		if !old.MatchString(text) {
			t.Fatalf("%s has no %s", name, replace[i])
		}
		text = old.ReplaceAllString(text, replace[i+1])
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// notification is what Alertmanager sends to a webhook.
type notification struct {
	Alerts []struct {
		Status              string
		Labels, Annotations map[string]string
	}
}

// notified collects notifications.
type notified struct {
	mu   sync.Mutex
	list map[string][]notification // by path
}

func (n *notified) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var one notification
	if err := json.NewDecoder(r.Body).Decode(&one); err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list[r.URL.Path] = append(n.list[r.URL.Path], one)
}

// have returns the latest alert of that name and status, by path.
func (n *notified) have(path, alert, status string) (labels, annotations map[string]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, one := range slices.Backward(n.list[path]) {
		for _, a := range one.Alerts {
			if a.Labels["alertname"] == alert && a.Status == status {
				return a.Labels, a.Annotations
			}
		}
	}
	return nil, nil
}

// connect asks proxyd for a target. It returns the status, and the connection if it
// is open.
func connect(t *testing.T, proxyd, target string) (int, net.Conn) {
	t.Helper()
	c, err := net.Dial("tcp", proxyd)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, c
}

// monitored is a proxyd with one upstream that is watched as the examples say, but
// every second.
type monitored struct {
	addr, admin, prometheus string
	file                    string
	upstream                *testkit.Proxy
	notified                *notified
}

func startMonitored(t *testing.T) *monitored {
	t.Helper()
	dir := t.TempDir()
	m := &monitored{notified: &notified{list: map[string][]notification{}}}
	receiver := httptest.NewServer(m.notified)
	t.Cleanup(receiver.Close)
	m.upstream = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": testkit.NewExchange(t).HTTP}})
	m.file = write(t, dir, "proxyd.yaml", fmt.Sprintf(`listen: 127.0.0.1:0
admin: 127.0.0.1:0
default: reject
pools: {asia: {proxies: [{name: tokyo-1, url: %q}]}}
exchanges: {okx: asia, okx_us: asia, okx_eea: asia, kraken: asia, kraken_futures: asia}
`, m.upstream.URL()))
	proxyd := startProgram(t, "../bin/proxyd", "run", "-c", m.file)
	m.addr = proxyd.find(t, `"msg":"listening","address":"([^"]+)"`)
	m.admin = proxyd.find(t, `"msg":"admin","address":"([^"]+)"`)

	alertmanager := startProgram(t, "prometheus-alertmanager", "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=",
		"--storage.path="+filepath.Join(dir, "alertmanager"), "--config.file="+write(t, dir, "alertmanager.yaml", read(t, "prometheus/alertmanager.yaml"),
			`http://127\.0\.0\.1:9094`, receiver.URL, `(group_wait|group_interval): \w+`, "$1: 1s"))
	write(t, dir, "alerts.yaml", read(t, "prometheus/alerts.yaml"), `for: \w+`, "for: 1s")
	prometheus := startProgram(t, "prometheus", "--web.listen-address=127.0.0.1:0", "--storage.tsdb.path="+filepath.Join(dir, "prometheus"),
		"--config.file="+write(t, dir, "prometheus.yaml", read(t, "prometheus/prometheus.yaml"), `127\.0\.0\.1:8878`, m.admin,
			`127\.0\.0\.1:9093`, alertmanager.find(t, `msg="Listening on" address=(\S+)`), `(scrape_interval|evaluation_interval): \w+`, "$1: 1s"))
	m.prometheus = prometheus.find(t, `msg="Listening on" address=(\S+)`)
	return m
}

// query asks Prometheus, and returns the number of series of the answer.
func (m *monitored) query(t *testing.T, expr string) int {
	t.Helper()
	resp, err := (&http.Client{Timeout: soon}).Get("http://" + m.prometheus + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		if resp.StatusCode == http.StatusServiceUnavailable { // it has only just started
			return 0
		}
		t.Fatalf("%s: %v: %s", expr, err, body)
	}
	return len(answer.Data.Result)
}

// fail asks for the target n times, and for another one whose tunnel it closes.
func (m *monitored) fail(t *testing.T, target string, n int) {
	t.Helper()
	for range n {
		status, c := connect(t, m.addr, target)
		c.Close()
		if status == http.StatusOK {
			t.Fatal("the upstream does not refuse")
		}
	}
	_, c := connect(t, m.addr, "futures.kraken.com:443")
	c.Close()
}

// A real Prometheus with the rules and the scrape configuration that are shipped,
// and a real Alertmanager with its route, page for an exchange that is lost, and
// for no other; and say when it is back.
func TestLostExchangePages(t *testing.T) {
	t.Parallel()
	m := startMonitored(t)
	const target = "ws.okx.com:8443"
	testkit.Eventually(t, soon, "a first scrape", func() bool { return m.query(t, `proxyd_exchange_lost{exchange="okx"} == 0`) > 0 })
	for range 2 {
		_, good := connect(t, m.addr, "ws.kraken.com:443")
		defer good.Close()
		fmt.Fprint(good, "GET /status/200 HTTP/1.1\r\nHost: ws.kraken.com\r\n\r\n")
	}
	m.upstream.SetFault(&testkit.Fault{At: testkit.AtRequest, Do: testkit.Answer("403 Forbidden", "not for you"), Host: "ws.okx.com"})
	m.fail(t, target, 4)
	testkit.Eventually(t, soon, "a page for the lost exchange", func() bool {
		labels, annotations := m.notified.have("/pager", "ProxydExchangeLost", "firing")
		if labels != nil && (labels["exchange"] != "okx" || labels["kind"] != "websocket" || labels["instance"] != m.admin ||
			!strings.Contains(annotations["description"], "`proxyd events --exchange okx ")) {
			t.Fatalf("the page says %v, %v", labels, annotations)
		}
		return labels != nil
	})
	if n := m.query(t, `ALERTS{alertname="ProxydExchangeLost", alertstate="firing", exchange!="okx"}`); n > 0 {
		t.Errorf("%d more exchanges are said to be lost", n)
	}

	m.fail(t, target, 1) // what is there from the start of a series is no rate
	m.upstream.SetFault(nil)
	testkit.Eventually(t, soon, "the upstream is asked again", func() bool {
		status, c := connect(t, m.addr, target)
		t.Cleanup(func() { c.Close() })
		return status == http.StatusOK
	})
	testkit.Eventually(t, soon, "a notification that it is back", func() bool {
		labels, _ := m.notified.have("/pager", "ProxydExchangeLost", "resolved")
		return labels != nil
	})
	m.checkDashboard(t)
}

// checkDashboard has Prometheus answer each query of the dashboard.
func (m *monitored) checkDashboard(t *testing.T) {
	t.Helper()
	variables := strings.NewReplacer("$instance", ".*", "$exchange", ".*", "$__rate_interval", "30s", "$__range", "1m")
	empty := []string{ // where there is nothing to show here
		"Silent feeds over time", "Tunnels that ended at once", "Verdicts", "Certificates", "Left of each budget", "Refused by budgets",
	}
	for _, p := range readDashboard(t).Panels {
		n := 0
		for _, q := range p.Targets {
			n += m.query(t, variables.Replace(q.Expr))
		}
		if n == 0 && len(p.Targets) > 0 && !slices.Contains(empty, p.Title) {
			t.Errorf("the panel %q shows nothing", p.Title)
		}
	}
}

// A file that is refused is an alert, not a page.
func TestRefusedReloadIsAnAlert(t *testing.T) {
	t.Parallel()
	m := startMonitored(t)
	testkit.Eventually(t, soon, "a first scrape", func() bool { return m.query(t, `proxyd_config_last_reload_successful == 1`) > 0 })
	if err := os.WriteFile(m.file, []byte("listen: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, soon, "an alert for the file", func() bool {
		labels, _ := m.notified.have("/chat", "ProxydReloadRefused", "firing")
		return labels["instance"] == m.admin
	})
	if labels, _ := m.notified.have("/pager", "ProxydReloadRefused", "firing"); labels != nil {
		t.Error("it pages")
	}
}
