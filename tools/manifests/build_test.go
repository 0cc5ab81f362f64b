package manifests

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The last version of kustomize that Go 1.26 builds.
const kustomize = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.2"

// kubernetes is deploy/kubernetes, and kustomizations what it has below.
const kubernetes = "../../deploy/kubernetes"

var kustomizations = []string{"base", "overlays/locked", "overlays/gateway", "overlays/redirect"}

// An object is what the tests look at of a Kubernetes object.
type object struct {
	Kind     string
	Metadata struct {
		Name   string
		Labels map[string]string
	}
	Data map[string]string
	Spec spec

	raw any
}

type spec struct {
	// Of a Deployment.
	Template struct {
		Metadata struct{ Labels map[string]string }
		Spec     podSpec
	}
	// Of a NetworkPolicy.
	PodSelector selector `yaml:"podSelector"`
	Types       []string `yaml:"policyTypes"`
	Ingress     []rule
	Egress      []rule
	// Of a PodMonitor.
	Endpoints []struct{ Port string } `yaml:"podMetricsEndpoints"`

	Selector yaml.Node // of a Deployment, PodMonitor, Service
	Ports    []struct {
		Target string `yaml:"targetPort"`
	}
}

type podSpec struct {
	Grace      float64     `yaml:"terminationGracePeriodSeconds"`
	Init       []container `yaml:"initContainers"`
	Containers []container
	Volumes    []struct{ Name string }
}

type container struct {
	Name     string
	Image    string
	Restart  string `yaml:"restartPolicy"`
	Command  []string
	Args     []string
	Security security `yaml:"securityContext"`
	Ports    []struct {
		Name string
		Port uint16 `yaml:"containerPort"`
	}
	Env []struct{ Name, Value string }
}

type security struct {
	User         uint32 `yaml:"runAsUser"`
	NonRoot      bool   `yaml:"runAsNonRoot"`
	Escalation   *bool  `yaml:"allowPrivilegeEscalation"`
	ReadOnly     bool   `yaml:"readOnlyRootFilesystem"`
	Capabilities struct{ Add, Drop []string }
}

// build runs kustomize and returns its output, and the objects in it.
func build(t *testing.T, dir string) (text []byte, objects []object) {
	t.Helper()
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(goTool(), "run", kustomize, "build", dir) //nolint:gosec // a fixed program
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if text, err = cmd.Output(); err != nil || stderr.Len() > 0 {
		t.Fatalf("kustomize build %s: %v\n%s", dir, err, stderr.Bytes())
	}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var n yaml.Node
		if err := d.Decode(&n); errors.Is(err, io.EOF) {
			return text, objects
		} else if err != nil {
			t.Fatal(err)
		}
		var o object
		if err := n.Decode(&o); err != nil {
			t.Fatal(err)
		}
		if err := n.Decode(&o.raw); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, o)
	}
}

// one returns the object of a kind and name.
func one(t *testing.T, objects []object, kind, name string) object {
	t.Helper()
	for _, o := range objects {
		if o.Kind == kind && o.Metadata.Name == name {
			return o
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return object{}
}

// configFile writes the proxyd.yaml of the ConfigMap to a file.
func configFile(t *testing.T, objects []object) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(file, []byte(one(t, objects, "ConfigMap", "proxyd").Data["proxyd.yaml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func goTool() string { return cmp.Or(os.Getenv("GO"), "go") }

// fromCheck returns what deploy/check.sh has set.
func fromCheck(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("no %s: run deploy/check.sh", name)
	}
	return value
}
