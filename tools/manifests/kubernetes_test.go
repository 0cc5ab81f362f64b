package manifests

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
)

// The API of the oldest version that has native sidecars, and of the newest that the
// validator knows, takes each object, with no field that it does not know.
func TestKubernetesTakesTheObjects(t *testing.T) {
	validate := fromCheck(t, "KUBERNETES_VALIDATE")
	for _, k := range kustomizations {
		t.Run(k, func(t *testing.T) {
			text, objects := build(t, filepath.Join(kubernetes, k))
			file := filepath.Join(t.TempDir(), "objects.yaml")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, version := range []string{"1.29", "1.37"} {
				out, err := exec.Command(validate, "-k", version, "--strict", file).CombinedOutput() //nolint:gosec // of deploy/check.sh
				if err != nil {
					t.Fatalf("%s: %v\n%s", version, err, out)
				}
				// It has no schema for PodMonitor, which the next test is for.
				if n := strings.Count(string(out), " passed "); n != len(objects)-1 {
					t.Errorf("%s: %d of %d objects passed\n%s", version, n, len(objects), out)
				}
			}
		})
	}
}

// The module whose CRD the PodMonitor is held to, and its sum.
const (
	operator    = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
	operatorSum = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
	podMonitors = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"
)

func TestOperatorTakesThePodMonitor(t *testing.T) {
	s := podMonitorSchema(t)
	for _, k := range kustomizations {
		_, objects := build(t, filepath.Join(kubernetes, k))
		if err := s.Validate(one(t, objects, "PodMonitor", "proxyd").raw); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	for _, wrong := range []string{
		"podMetricsEndpoints: [{port: a}]",                                           // no selector
		"selector: {}\npodMetricsEndpoints: [{port: a, interval: often}]",            // no duration
		"selector: {}\npodMetricsEndpoints: [{port: a, relabelings: [{action: x}]}]", // not in the list
		"selector: {}\npodMetricEndpoints: [{port: a}]",                              // misspelled
	} {
		var v any
		if err := yaml.Unmarshal([]byte("apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\nspec:\n  "+strings.ReplaceAll(wrong, "\n", "\n  ")), &v); err != nil {
			t.Fatal(err)
		}
		if s.Validate(v) == nil {
			t.Errorf("the schema takes %s", wrong)
		}
	}
}

// podMonitorSchema returns the schema of the CRD, which refuses fields that it does
// not know; the API would drop them without a word.
func podMonitorSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	cmd := exec.Command(goTool(), "mod", "download", "-json", operator)
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil || module.Sum != operatorSum {
		t.Fatalf("%s: %v, sum %s", operator, err, module.Sum)
	}
	text, err := os.ReadFile(filepath.Join(module.Dir, podMonitors))
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPI any `yaml:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	if len(crd.Spec.Versions) != 1 || crd.Spec.Versions[0].Name != "v1" {
		t.Fatalf("versions of the CRD: %+v", crd.Spec.Versions)
	}
	doc := crd.Spec.Versions[0].Schema.OpenAPI
	closeObjects(doc)
	c := jsonschema.NewCompiler()
	if err := c.AddResource("podmonitor.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("podmonitor.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closeObjects makes each object of a schema that lists its properties refuse others.
func closeObjects(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if _, lists := s["properties"].(map[string]any); lists && s["type"] == "object" && s["additionalProperties"] == nil {
			s["additionalProperties"] = false
		}
		for _, v := range s {
			closeObjects(v)
		}
	case []any:
		for _, v := range s {
			closeObjects(v)
		}
	}
}

// What is in the ConfigMap passes proxyd check --strict, and a stop has time.
func TestConfigMapsPassCheck(t *testing.T) {
	proxyd := fromCheck(t, "PROXYD")
	for _, k := range kustomizations {
		_, objects := build(t, filepath.Join(kubernetes, k))
		file := configFile(t, objects)
		if out, err := exec.Command(proxyd, "check", "--strict", "--no-secrets", "-c", file).CombinedOutput(); err != nil { //nolint:gosec // of deploy/check.sh
			t.Errorf("%s: %v\n%s", k, err, out)
		}
		c, err := config.LoadWith(file, nil, config.Options{NoSecrets: true})
		if err != nil {
			t.Fatal(err)
		}
		name := "feed"
		if k == "overlays/gateway" {
			name = "proxyd"
		}
		if grace := one(t, objects, "Deployment", name).Spec.Template.Spec.Grace; grace < (c.StopGrace + c.Drain).Seconds() {
			t.Errorf("%s: %s has %v s to stop, proxyd takes %v", k, name, grace, c.StopGrace+c.Drain)
		}
	}
}

// ConfigMap and Secret keep their names when their content changes, in an overlay
// too: a new name would restart the pods. The overlay is that of docs/operations.md.
func TestOverlayOfTheDocuments(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(apiVersion: kustomize.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatal("docs/operations.md has no kustomization.yaml")
	}
	dir := filepath.Join(t.TempDir(), "mine")
	if err := os.CopyFS(filepath.Join(dir, "../base"), os.DirFS(filepath.Join(kubernetes, "base"))); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"kustomization.yaml": strings.ReplaceAll(string(m[1]), "../../base", "../base"),
		"asia":               "a-real-password", "proxyd.yaml": "default: reject\n",
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, objects := build(t, dir)
	if got := one(t, objects, "ConfigMap", "proxyd").Data["proxyd.yaml"]; got != files["proxyd.yaml"] {
		t.Errorf("ConfigMap: %q", got)
	}
	if got := one(t, objects, "Secret", "proxyd").Data["asia"]; got != "YS1yZWFsLXBhc3N3b3Jk" {
		t.Errorf("Secret: %q", got)
	}
	if feed := one(t, objects, "Deployment", "feed").raw; !strings.Contains(mustYAML(t, feed), "registry.example/my-feed:1.2") {
		t.Error("the feed's image is not replaced")
	}
}

func mustYAML(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Names that one object gives another: the Service's port, the PodMonitor's port
// and pods, and the policies before the pods that they are for.
func TestObjectsFitTogether(t *testing.T) {
	for _, k := range kustomizations {
		_, objects := build(t, filepath.Join(kubernetes, k))
		monitor, scraped := one(t, objects, "PodMonitor", "proxyd"), 0
		var kinds []string
		for _, o := range objects {
			kinds = append(kinds, o.Kind)
			if o.Kind != "Deployment" {
				continue
			}
			pod := o.Spec.Template
			selects := matches(t, monitor.Spec.Selector, pod.Metadata.Labels)
			if has := hasPort(pod.Spec, monitor.Spec.Endpoints[0].Port); has != selects {
				t.Errorf("%s: Deployment %s: the PodMonitor selects it: %v; it has its port: %v", k, o.Metadata.Name, selects, has)
			} else if has {
				scraped++
			}
		}
		if scraped != 1 {
			t.Errorf("%s: the PodMonitor selects %d Deployments", k, scraped)
		}
		if p := slices.Index(kinds, "NetworkPolicy"); k != "base" && k != "overlays/redirect" && (p < 0 || p > slices.Index(kinds, "Deployment")) {
			t.Errorf("%s: the policy does not come first: %v", k, kinds)
		}
		if i := slices.Index(kinds, "Service"); i >= 0 {
			proxyd := one(t, objects, "Deployment", "proxyd").Spec.Template
			if i > slices.Index(kinds, "Deployment") || !hasPort(proxyd.Spec, objects[i].Spec.Ports[0].Target) ||
				!matches(t, objects[i].Spec.Selector, proxyd.Metadata.Labels) {
				t.Errorf("%s: the Service does not lead to proxyd, or comes too late: %v", k, kinds)
			}
		}
	}
}

func hasPort(p podSpec, name string) bool {
	for _, c := range slices.Concat(p.Init, p.Containers) {
		for _, port := range c.Ports {
			if port.Name == name {
				return true
			}
		}
	}
	return false
}
