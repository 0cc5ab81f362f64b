package manifests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
)

// The init container alone may change the network. proxyd is left out of its rules by a
// user that no other container has or can become.
func TestRedirectedPodIsOfUsers(t *testing.T) {
	_, objects := build(t, filepath.Join(kubernetes, "overlays/redirect"))
	template := one(t, objects, "Deployment", "feed").Spec.Template
	redirect, proxyd, feed := redirectedPod(t, template.Spec)
	if redirect.Restart != "" || proxyd.Restart != "Always" {
		t.Errorf("restartPolicy: %q, %q", redirect.Restart, proxyd.Restart)
	}
	for _, c := range []container{redirect, proxyd, feed} {
		s := c.Security
		if !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || s.Escalation == nil || *s.Escalation || c.Name != "feed" && !s.ReadOnly {
			t.Errorf("%s: %+v", c.Name, s)
		}
		if want := c.Name == "redirect"; want != slices.Equal(s.Capabilities.Add, []string{"NET_ADMIN"}) || !want && (len(s.Capabilities.Add) > 0 || !s.NonRoot) {
			t.Errorf("%s: %+v", c.Name, s)
		}
	}
	if u := proxyd.Security.User; u == 0 || u == feed.Security.User || feed.Security.User == 0 || !strings.Contains(strings.Join(redirect.Command, " "), fmt.Sprintf("--except-uid %d ", u)) {
		t.Errorf("proxyd is user %d, the feed %d: %q", u, feed.Security.User, redirect.Command)
	}
	for _, label := range []string{"sidecar.istio.io/inject=false", "istio.io/dataplane-mode=none"} {
		if name, value, _ := strings.Cut(label, "="); template.Metadata.Labels[name] != value {
			t.Errorf("no label %s", label)
		}
	}
	c, err := config.LoadWith(configFile(t, objects), nil, config.Options{NoSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listen) != 2 || c.Listen[0].Transparent || !c.Listen[1].Transparent || c.Listen[1].Address != "127.0.0.1:8879" {
		t.Errorf("listen: %+v", c.Listen)
	}
}

// redirectedPod returns the containers in the order in which they start.
func redirectedPod(t *testing.T, p podSpec) (redirect, proxyd, feed container) {
	t.Helper()
	if len(p.Init) != 2 || p.Init[0].Name != "redirect" || p.Init[1].Name != "proxyd" || len(p.Containers) != 1 {
		t.Fatalf("the containers are %+v, %+v", p.Init, p.Containers)
	}
	return p.Init[0], p.Init[1], p.Containers[0]
}

// The commands of the manifest, run in namespaces: what the feed opens goes through
// proxyd by the ConfigMap's rules, and nothing else leaves the pod.
func TestRedirectedPodRuns(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be the pod's users")
	}
	_, objects := build(t, filepath.Join(kubernetes, "overlays/redirect"))
	redirect, proxyd, feed := redirectedPod(t, one(t, objects, "Deployment", "feed").Spec.Template.Spec)
	dir, err := os.MkdirTemp("", "pod")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	here := strings.NewReplacer("/etc/proxyd/config", dir, "/etc/proxyd/secrets", dir)
	program, err := os.ReadFile(fromCheck(t, "PROXYD"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"proxyd": string(program), "proxyd.yaml": here.Replace(one(t, objects, "ConfigMap", "proxyd").Data["proxyd.yaml"]), "asia": "secret",
		"hosts": "127.0.0.1 localhost\n192.31.196.1 api.kraken.com\n", "resolv.conf": "nameserver 198.51.100.1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil { //nolint:gosec // for the pod's users
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // for the pod's users
		t.Fatal(err)
	}
	if len(redirect.Command) != 3 || redirect.Command[1] != "-euc" || !slices.Equal(proxyd.Args, []string{"run", "-c", "/etc/proxyd/config/proxyd.yaml"}) {
		t.Fatalf("commands: %q, %q", redirect.Command, proxyd.Args)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-eu", "testdata/pod.sh")
	cmd.Env = append(os.Environ(), "DIR="+dir, "REDIRECT="+here.Replace(redirect.Command[2]), fmt.Sprintf("REDIRECT_USER=%d", redirect.Security.User),
		fmt.Sprintf("SIDECAR_USER=%d", proxyd.Security.User), fmt.Sprintf("FEED_USER=%d", feed.Security.User))
	out, err := cmd.CombinedOutput()
	const want = "direct by proxyd: 200\nrefused by proxyd: 403\nby the variables: 200\nUDP: PermissionError\nredirected: yes\nrules: kept\n"
	if err != nil || string(out) != want {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Errorf("%v:\n%s\nwant\n%s\n%s", err, out, want, log)
	}
}
