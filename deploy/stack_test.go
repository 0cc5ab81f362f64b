//go:build image

package deploy

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/testkit"
)

// Addresses of this test's network that are not loopback (deploy/check.sh).
const (
	podAddress     = "10.1.2.3"
	composeAddress = "172.18.0.2"    // and the name proxyd leads there
	publicAddress  = "203.0.113.200" // one that no cluster gives to a pod
)

var client = &http.Client{Timeout: 5 * time.Second}

// get returns the status and the body of a request from a machine's own address.
func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// The sidecar runs as the pod starts it, and answers the kubelet's probes at the
// pod's address and Prometheus, with nothing more.
func TestImageAsSidecar(t *testing.T) {
	text, p := sidecar(t)
	c := p.Init[0]
	b := newBox(t, readImage(t), map[string]string{
		"/etc/proxyd/config":  directory(t, map[string]string{"proxyd.yaml": text}),
		"/etc/proxyd/secrets": directory(t, map[string]string{"asia": "secret-of-asia"}),
	})
	b.start(t, nil, c.Args...)
	if out, err := b.command(t, "/usr/bin/proxyd", "status").CombinedOutput(); err != nil || !strings.Contains(string(out), "tokyo-1") {
		t.Errorf("status: %v\n%s", err, out)
	}
	for path, want := range map[string]int{
		c.Startup.Get.Path: 200, c.Readiness.Get.Path: 200, c.Liveness.Get.Path: 200, "/metrics": 200,
		"/api/v1/status": 403, "/api/v1/config": 403,
	} {
		if got, body := get(t, "http://"+podAddress+":8878"+path); got != want || strings.Contains(body, "secret-of-asia") {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
	for host, want := range map[string]string{"not-listed.example:443": "denied", "api.binance.com:443": "tokyo-2.example"} {
		if _, r := testkit.Open(t, "127.0.0.1:8877", testkit.Ask{Protocol: testkit.CONNECT11, Target: host}); !strings.Contains(r.Reason, want) {
			t.Errorf("%s: got %v, want %s", host, r, want)
		}
	}
}

// The gateway serves pods, and not other addresses. Its admin address wants a token
// for more than probes and metrics, on the pod itself too.
func TestImageAsGateway(t *testing.T) {
	dir := "kubernetes/overlays/gateway/"
	_, deployment, _ := strings.Cut(read(t, dir+"proxyd-deployment.yaml"), "\n---\n")
	var o object
	if err := yaml.Unmarshal([]byte(deployment), &o); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{ // by name of the volume
		"proxyd-config":  directory(t, map[string]string{"proxyd.yaml": read(t, dir+"proxyd.yaml")}),
		"proxyd-secrets": directory(t, map[string]string{"asia": "secret-of-asia"}),
		"proxyd-admin":   directory(t, map[string]string{"token": "secret-of-the-admin-address"}),
	}
	c, mounts := o.Spec.Template.Spec.Containers[0], map[string]string{}
	for _, m := range c.Mounts {
		mounts[m.Path] = files[m.Name]
	}
	b := newBox(t, readImage(t), mounts)
	b.start(t, nil, c.Args...)
	status := append([]string{"/usr/bin/proxyd", "status"}, c.Args[1:]...) // -c, the file that has the token
	if out, err := b.command(t, status...).CombinedOutput(); err != nil || !strings.Contains(string(out), "tokyo-1") {
		t.Errorf("%q: %v\n%s", status, err, out)
	}
	for url, want := range map[string]int{
		podAddress + ":8878" + c.Startup.Get.Path: 200, podAddress + ":8878" + c.Liveness.Get.Path: 200, podAddress + ":8878/metrics": 200,
		podAddress + ":8878/api/v1/status": 401, "127.0.0.1:8878/api/v1/status": 401, publicAddress + ":8878/metrics": 401,
	} {
		if got, body := get(t, "http://"+url); got != want {
			t.Errorf("%s: got %d %s, want %d", url, got, body, want)
		}
	}
	for from, want := range map[string]string{podAddress: "tokyo-2.example", publicAddress: "denied"} {
		if _, r := testkit.Open(t, from+":8877", testkit.Ask{Protocol: testkit.CONNECT11, Target: "api.binance.com:443"}); !strings.Contains(r.Reason, want) {
			t.Errorf("from %s: got %v, want %s", from, r, want)
		}
	}
}

// A real Prometheus with the files of the compose project reads the proxyd of the
// project, under its name there, and has the rules.
func TestImageInCompose(t *testing.T) {
	b := newBox(t, readImage(t), map[string]string{"/etc/proxyd": "compose/proxyd"})
	b.start(t, []string{"ASIA_PASSWORD=secret-of-asia"})

	dir := t.TempDir()
	for from, to := range map[string]string{"compose/prometheus.yaml": "prometheus.yml", "prometheus/alerts.yaml": "alerts.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, to), []byte(read(t, from)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out testkit.Output
	prometheus := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), //nolint:gosec // a fixed program
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:9090")
	prometheus.Stdout, prometheus.Stderr = &out, &out
	if err := prometheus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = prometheus.Process.Kill()
		_ = prometheus.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	var answer struct {
		Data struct {
			ActiveTargets []struct{ ScrapeURL, Health, LastError string }
			Groups        []struct{ Rules []struct{ Name string } }
		}
	}
	ask := func(path string) {
		r, err := client.Get("http://127.0.0.1:9090/api/v1/" + path)
		if err != nil {
			return // it starts
		}
		defer func() { _ = r.Body.Close() }()
		_ = json.NewDecoder(r.Body).Decode(&answer)
	}
	testkit.Eventually(t, time.Minute, "Prometheus has read http://proxyd:8878/metrics", func() bool {
		ask("targets")
		return len(answer.Data.ActiveTargets) == 1 && answer.Data.ActiveTargets[0].Health == "up"
	})
	if ask("rules"); len(answer.Data.Groups) == 0 || len(answer.Data.Groups[0].Rules) < 10 {
		t.Errorf("rules: %+v", answer.Data.Groups)
	}
}
