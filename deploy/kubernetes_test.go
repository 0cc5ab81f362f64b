package deploy

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
)

// An object is what the test looks at of a Kubernetes object.
type object struct {
	Kind string
	Data map[string]string
	Spec struct {
		Template struct{ Spec pod }
	}
}

type pod struct {
	Grace   float64     `yaml:"terminationGracePeriodSeconds"`
	Init    []container `yaml:"initContainers"`
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
	Mounts    []struct {
		Name string
		Path string `yaml:"mountPath"`
		Sub  string `yaml:"subPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	Get struct{ Path, Port string } `yaml:"httpGet"`
}

// sidecar reads the manifest: the configuration in it, and the pod.
func sidecar(t *testing.T) (configMap string, p pod) {
	t.Helper()
	f, err := os.Open("kubernetes/sidecar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := yaml.NewDecoder(f); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return configMap, p
		} else if err != nil {
			t.Fatal(err)
		}
		switch o.Kind {
		case "ConfigMap":
			configMap = o.Data["proxyd.yaml"]
		case "Deployment":
			p = o.Spec.Template.Spec
		}
	}
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
