package deploy

import (
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
)

// An object is what the test looks at of a Kubernetes object.
type object struct {
	Spec struct {
		Template struct{ Spec pod }
	}
}

type pod struct {
	Grace      float64     `yaml:"terminationGracePeriodSeconds"`
	Init       []container `yaml:"initContainers"`
	Containers []container
	Security   struct {
		Group int `yaml:"fsGroup"`
	} `yaml:"securityContext"`
	Volumes []struct {
		Name      string
		ConfigMap *struct{ Name string } `yaml:"configMap"`
		Secret    *struct {
			Name string `yaml:"secretName"`
		}
	}
}

type container struct {
	Name    string
	Restart string `yaml:"restartPolicy"`
	Args    []string
	Ports   []struct {
		Name string
		Port uint16 `yaml:"containerPort"`
	}
	Startup   probe     `yaml:"startupProbe"`
	Readiness probe     `yaml:"readinessProbe"`
	Liveness  probe     `yaml:"livenessProbe"`
	Lifecycle yaml.Node // absent
	Security  struct {
		User int `yaml:"runAsUser"`
	} `yaml:"securityContext"`
	Mounts []struct {
		Name string
		Path string `yaml:"mountPath"`
		Sub  string `yaml:"subPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	Get struct{ Path, Port string } `yaml:"httpGet"`
}

// sidecar reads the base: what its ConfigMap is made of, and the pod. tools/manifests
// tests what kustomize makes of base and overlays.
func sidecar(t *testing.T) (configMap string, p pod) {
	t.Helper()
	var o object
	readYAML(t, "kubernetes/base/deployment.yaml", &o)
	return read(t, "kubernetes/base/proxyd.yaml"), o.Spec.Template.Spec
}

func TestSidecar(t *testing.T) {
	text, p := sidecar(t)
	file := filepath.Join(t.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.LoadWith(file, nil, config.Options{NoSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
	if len(p.Init) != 1 || p.Init[0].Restart != "Always" || p.Init[0].Lifecycle.Kind != 0 {
		t.Fatalf("no native sidecar without hooks: %+v", p.Init)
	}
	proxyd := p.Init[0]
	if stop := 20*time.Second + c.StopGrace + c.Drain; p.Grace < stop.Seconds() {
		t.Errorf("terminationGracePeriodSeconds is %v, a stop takes %v", p.Grace, stop)
	}

	admin, err := netip.ParseAddrPort(c.Admin.Address)
	if err != nil || !admin.Addr().IsUnspecified() || len(c.Admin.Allow) == 0 {
		t.Errorf("the kubelet cannot ask %s, allow %v: %v", c.Admin.Address, c.Admin.Allow, err)
	}
	if len(proxyd.Ports) != 1 || proxyd.Ports[0].Port != admin.Port() {
		t.Errorf("ports are %v, the admin port is %d", proxyd.Ports, admin.Port())
	}
	for name, got := range map[string]struct {
		probe
		want string
	}{"startup": {proxyd.Startup, "/readyz"}, "readiness": {proxyd.Readiness, "/readyz"}, "liveness": {proxyd.Liveness, "/healthz"}} {
		if got.Get.Path != got.want || got.Get.Port != proxyd.Ports[0].Name {
			t.Errorf("%s probe: got %v, want %s", name, got.Get, got.want)
		}
	}
}

// The configuration and its secrets are in volumes that follow a change.
func TestSidecarMounts(t *testing.T) {
	text, p := sidecar(t)
	from := map[string]string{} // directory to what is mounted there
	for _, m := range p.Init[0].Mounts {
		if m.Sub != "" {
			t.Errorf("%s: what is mounted with subPath never changes", m.Path)
		}
		for _, v := range p.Volumes {
			switch {
			case v.Name == m.Name && v.ConfigMap != nil:
				from[m.Path] = "ConfigMap " + v.ConfigMap.Name
			case v.Name == m.Name && v.Secret != nil:
				from[m.Path] = "Secret " + v.Secret.Name
			}
		}
	}
	args := p.Init[0].Args
	if i := slices.Index(args, "-c"); i < 0 || from[path.Dir(args[i+1])] != "ConfigMap proxyd" || path.Base(args[i+1]) != "proxyd.yaml" {
		t.Errorf("arguments %q, mounted %q", args, from)
	}
	secrets := regexp.MustCompile(`\$\{file:([^}]*)\}`).FindAllStringSubmatch(text, -1)
	if len(secrets) == 0 || len(secrets) != strings.Count(text, "${") {
		t.Error("secrets that come as variables do not follow a change")
	}
	for _, s := range secrets {
		if from[path.Dir(s[1])] != "Secret proxyd" {
			t.Errorf("%s is not in a mounted Secret", s[1])
		}
	}
}

// The pods run as the user of the image.
func TestSidecarUserIsTheImages(t *testing.T) {
	_, p := sidecar(t)
	if user := fmt.Sprintf("\nUSER %d:%d\n", p.Init[0].Security.User, p.Security.Group); !strings.Contains(read(t, "../Dockerfile"), user) {
		t.Errorf("Dockerfile has no %q", user)
	}
}

// Both images are the same, but for where their files come from.
func TestImagesAreAlike(t *testing.T) {
	var settings []string
	for _, file := range []string{"../Dockerfile", "../Dockerfile.release"} {
		text := read(t, file)
		_, same, found := strings.Cut(text, "\nARG VERSION=dev\nARG REVISION=\n")
		if !found || !strings.Contains(text, "\nFROM scratch\n") {
			t.Errorf("%s: no settings, or not from scratch", file)
		}
		settings = append(settings, same)
	}
	if diff := cmp.Diff(settings[0], settings[1]); diff != "" {
		t.Errorf("(-Dockerfile +Dockerfile.release)\n%s", diff)
	}
}
