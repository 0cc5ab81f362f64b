package manifests

import (
	"context"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
)

const deploy = "../../deploy"

// project reads the compose file as docker compose does: interpolated, held to the
// schema of the specification, and its services to each other.
func project(t *testing.T, text []byte, environ types.Mapping) (*types.Project, error) {
	t.Helper()
	dir, err := filepath.Abs(deploy)
	if err != nil {
		t.Fatal(err)
	}
	return loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir: dir, Environment: environ,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml"), Content: text}},
	})
}

func composeFile(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func compose(t *testing.T) *types.Project {
	t.Helper()
	p, err := project(t, composeFile(t), types.Mapping{"ASIA_PASSWORD": "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mounted returns where a service has a file or directory of deploy/.
func mounted(t *testing.T, s types.ServiceConfig, file string) string {
	t.Helper()
	want, err := filepath.Abs(filepath.Join(deploy, file))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range s.Volumes {
		if v.Source == want {
			return v.Target
		}
	}
	t.Fatalf("%s does not have %s", s.Name, file)
	return ""
}

func TestComposeFileIsValid(t *testing.T) {
	for name, s := range compose(t).Services {
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !v.ReadOnly {
				t.Errorf("%s may write %s", name, v.Source)
			}
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s to other machines", name, p.Published)
			}
		}
	}
	if _, err := project(t, composeFile(t), nil); err == nil || !strings.Contains(err.Error(), "ASIA_PASSWORD") {
		t.Errorf("without a password: %v", err)
	}
	wrong := strings.Replace(string(composeFile(t)), "read_only:", "readonly:", 1)
	if _, err := project(t, []byte(wrong), types.Mapping{"ASIA_PASSWORD": "secret"}); err == nil {
		t.Error("a misspelled key is taken")
	}
}

// The feed is in the network of proxyd, waits for its health check, and asks it at
// the address where it listens. proxyd may write nothing and has time to stop.
func TestComposeFeedUsesProxyd(t *testing.T) {
	p := compose(t)
	proxyd, feed := p.Services["proxyd"], p.Services["feed"]
	file := filepath.Join(deploy, "compose/proxyd/proxyd.yaml")
	c, err := config.LoadWith(file, []string{"ASIA_PASSWORD=secret"}, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
	if feed.NetworkMode != "service:proxyd" || feed.DependsOn["proxyd"].Condition != types.ServiceConditionHealthy {
		t.Errorf("feed: network %q, depends on %+v", feed.NetworkMode, feed.DependsOn)
	}
	if got := feed.Environment["HTTPS_PROXY"]; got == nil || *got != "http://"+c.Listen[0].Address {
		t.Errorf("HTTPS_PROXY is %v, proxyd listens on %s", got, c.Listen[0].Address)
	}
	if at := mounted(t, proxyd, "compose/proxyd"); at != "/etc/proxyd" {
		t.Errorf("proxyd does not look for its configuration in %s", at)
	}
	if !proxyd.ReadOnly || len(proxyd.CapDrop) != 1 || proxyd.CapDrop[0] != "ALL" {
		t.Errorf("proxyd: %+v", proxyd)
	}
	if stop := c.StopGrace + c.Drain; proxyd.StopGracePeriod == nil || stop >= time.Duration(*proxyd.StopGracePeriod) {
		t.Errorf("stop_grace_period %v, a stop takes %v", proxyd.StopGracePeriod, stop)
	}
}

// Prometheus, Grafana and what they read find each other by the names of services.
func TestComposeMonitoringFitsTogether(t *testing.T) {
	p := compose(t)
	prometheus, grafana := p.Services["prometheus"], p.Services["grafana"]

	var conf struct {
		Files []string `yaml:"rule_files"`
		Jobs  []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "compose/prometheus.yaml", &conf)
	base := path.Dir(mounted(t, prometheus, "compose/prometheus.yaml"))
	if got := mounted(t, prometheus, "prometheus/alerts.yaml"); len(conf.Files) != 1 || got != path.Join(base, conf.Files[0]) {
		t.Errorf("rules %v, mounted at %s", conf.Files, got)
	}
	if conf.Jobs[0].Static[0].Targets[0] != "proxyd:8878" || !share(p, "proxyd", "prometheus") || !share(p, "prometheus", "grafana") {
		t.Errorf("networks or targets: %+v", conf)
	}

	var sources struct{ Datasources []struct{ URL, Type string } }
	readYAML(t, "compose/grafana/datasource.yaml", &sources)
	u, err := url.Parse(sources.Datasources[0].URL)
	if err != nil || u.Hostname() != prometheus.Name || u.Port() != "9090" || sources.Datasources[0].Type != "prometheus" {
		t.Errorf("data source %+v: %v", sources, err)
	}
	var boards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	readYAML(t, "compose/grafana/dashboards.yaml", &boards)
	if got := mounted(t, grafana, "grafana"); got != boards.Providers[0].Options.Path {
		t.Errorf("dashboards at %s, mounted at %s", boards.Providers[0].Options.Path, got)
	}
	for file, kind := range map[string]string{"compose/grafana/datasource.yaml": "datasources", "compose/grafana/dashboards.yaml": "dashboards"} {
		if at := mounted(t, grafana, file); path.Dir(at) != "/etc/grafana/provisioning/"+kind {
			t.Errorf("%s at %s", file, at)
		}
	}
}

func share(p *types.Project, a, b string) bool {
	for n := range p.Services[a].Networks {
		if _, ok := p.Services[b].Networks[n]; ok {
			return true
		}
	}
	return false
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, file))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}
