package manifests

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
)

// A selector is a label selector, as far as these manifests use it.
type selector struct {
	Labels      map[string]string                `yaml:"matchLabels"`
	Expressions []struct{ Key, Operator string } `yaml:"matchExpressions"`
}

func (s *selector) selects(labels map[string]string) bool {
	for k, v := range s.Labels {
		if labels[k] != v {
			return false
		}
	}
	for _, e := range s.Expressions {
		if _, ok := labels[e.Key]; e.Operator != "Exists" || !ok {
			return false
		}
	}
	return true
}

// matches reports whether a selector, or a Service's plain labels, select a pod.
func matches(t *testing.T, n yaml.Node, labels map[string]string) bool {
	t.Helper()
	var s selector
	if err := n.Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.Labels == nil && s.Expressions == nil {
		if err := n.Decode(&s.Labels); err != nil {
			t.Fatal(err)
		}
	}
	return s.selects(labels)
}

// A rule is one of a NetworkPolicy. Without ports it is for all ports, and without
// peers for all.
type rule struct {
	From, To []peer
	Ports    []struct {
		Port     uint16
		Protocol string
	}
}

type peer struct {
	Block *struct {
		CIDR   netip.Prefix
		Except []netip.Prefix
	} `yaml:"ipBlock"`
	Pods       *selector `yaml:"podSelector"`
	Namespaces *selector `yaml:"namespaceSelector"`
}

// An end is one end of a connection: a pod, or an address outside the cluster.
type end struct {
	labels    map[string]string // nil if it is no pod
	namespace map[string]string // the labels of its namespace; nil is the one of the policies
	address   netip.Addr
}

func (p peer) is(e end) bool {
	if p.Block != nil {
		return e.labels == nil && p.Block.CIDR.Contains(e.address) &&
			!slices.ContainsFunc(p.Block.Except, func(x netip.Prefix) bool { return x.Contains(e.address) })
	}
	if e.labels == nil || p.Pods != nil && !p.Pods.selects(e.labels) {
		return false
	}
	if p.Namespaces == nil {
		return e.namespace == nil
	}
	return p.Namespaces.selects(e.namespace)
}

// allowed reports whether the policies let a connection pass, by the rules of
// networking.k8s.io/v1: a direction of a pod that no policy is for is open; else one
// rule must allow it.
func allowed(objects []object, from, to end, protocol string, port uint16) bool {
	pass := func(direction string, of, other end, rules func(spec) []rule, peers func(rule) []peer) bool {
		if of.labels == nil || of.namespace != nil {
			return true // not a pod of this namespace
		}
		open := true
		for _, o := range objects {
			if o.Kind != "NetworkPolicy" || !slices.Contains(o.Spec.Types, direction) || !o.Spec.PodSelector.selects(of.labels) {
				continue
			}
			open = false
			for _, r := range rules(o.Spec) {
				isPeer := len(peers(r)) == 0 || slices.ContainsFunc(peers(r), func(p peer) bool { return p.is(other) })
				isPort := len(r.Ports) == 0
				for _, p := range r.Ports {
					isPort = isPort || p.Protocol == protocol && p.Port == port
				}
				if isPeer && isPort {
					return true
				}
			}
		}
		return open
	}
	return pass("Egress", from, to, func(s spec) []rule { return s.Egress }, func(r rule) []peer { return r.To }) &&
		pass("Ingress", to, from, func(s spec) []rule { return s.Ingress }, func(r rule) []peer { return r.From })
}

var (
	exchange   = end{address: netip.MustParseAddr("198.51.100.7")}
	metadata   = end{address: netip.MustParseAddr("169.254.169.254")}
	dns        = end{labels: map[string]string{"k8s-app": "kube-dns"}, namespace: map[string]string{"kubernetes.io/metadata.name": "kube-system"}}
	prometheus = end{labels: map[string]string{"app": "prometheus"}, namespace: map[string]string{"kubernetes.io/metadata.name": "monitoring"}}
	stranger   = end{labels: map[string]string{"app": "another"}}
)

// A connection is a TCP connection. One that is not wanted is not wanted by UDP either,
// such as QUIC and the questions to DNS.
type connection struct {
	what     string
	from, to end
	port     uint16
	want     bool
}

func checkConnections(t *testing.T, objects []object, list []connection) {
	t.Helper()
	for _, c := range list {
		if got := allowed(objects, c.from, c.to, "TCP", c.port); got != c.want {
			t.Errorf("%s: allowed %v, want %v", c.what, got, c.want)
		}
		if !c.want && allowed(objects, c.from, c.to, "UDP", c.port) {
			t.Errorf("%s is allowed by UDP", c.what)
		}
	}
}

func podOf(t *testing.T, objects []object, deployment string) end {
	t.Helper()
	return end{labels: one(t, objects, "Deployment", deployment).Spec.Template.Metadata.Labels}
}

// The pod of feed and sidecar reaches the upstreams that its ConfigMap has, and
// nothing else: what goes around proxyd reaches no exchange.
func TestLockedPodReachesUpstreamsOnly(t *testing.T) {
	_, objects := build(t, filepath.Join(kubernetes, "overlays/locked"))
	pod := podOf(t, objects, "feed")
	checkConnections(t, objects, []connection{
		{"pod to an exchange", pod, exchange, 443, false},
		{"pod to the metadata service", pod, metadata, 80, false},
		{"pod to DNS", pod, dns, 53, false},
		{"pod to another pod", pod, stranger, 443, false},
		{"another pod to the sidecar", stranger, pod, 8877, false},
		{"another pod to metrics", stranger, pod, 8878, false},
		{"Prometheus to metrics", prometheus, pod, 8878, true},
		{"without the policies, pod to an exchange", end{labels: map[string]string{"app": "x"}}, exchange, 443, true},
	})
	c, err := config.LoadWith(configFile(t, objects), nil, config.Options{NoSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	hosts := map[netip.Addr]bool{}
	for _, p := range c.Pools {
		for _, up := range p.Proxies {
			addr := up.URL.Host.IP
			if !addr.IsValid() {
				t.Fatalf("%s has a name, and the pod has no DNS", up.Name)
			}
			hosts[addr] = true
			checkConnections(t, objects, []connection{
				{"pod to " + up.Name, pod, end{address: addr}, up.URL.Port, true},
				{"pod to another port of " + up.Name, pod, end{address: addr}, 443, false},
			})
		}
	}
	if len(hosts) == 0 {
		t.Fatal("no upstreams")
	}
	for _, r := range one(t, objects, "NetworkPolicy", "feed").Spec.Egress {
		for _, p := range r.To {
			if p.Block == nil || !p.Block.CIDR.IsSingleIP() || !hosts[p.Block.CIDR.Addr()] {
				t.Errorf("no upstream of the ConfigMap: %+v", p)
			}
		}
	}
	if text := one(t, objects, "ConfigMap", "proxyd").Data["proxyd.yaml"]; strings.Contains(text, ": direct") || len(c.Listen) != 1 {
		t.Error("a direct route, which the policy breaks")
	}
}

// A feed beside a gateway reaches proxyd's port and nothing else, and only a feed
// reaches that port.
func TestFeedReachesTheGatewayOnly(t *testing.T) {
	_, objects := build(t, filepath.Join(kubernetes, "overlays/gateway"))
	feed, proxyd := podOf(t, objects, "feed"), podOf(t, objects, "proxyd")
	checkConnections(t, objects, []connection{
		{"feed to proxyd", feed, proxyd, 8877, true},
		{"feed to proxyd's admin address", feed, proxyd, 8878, false},
		{"feed to an exchange", feed, exchange, 443, false},
		{"feed to the metadata service", feed, metadata, 80, false},
		{"feed to DNS", feed, dns, 53, false},
		{"feed to another pod", feed, stranger, 443, false},
		{"another pod to proxyd", stranger, proxyd, 8877, false},
		{"Prometheus to proxyd", prometheus, proxyd, 8877, false},
		{"Prometheus to metrics", prometheus, proxyd, 8878, true},
		{"proxyd to an exchange", proxyd, exchange, 443, true},
		{"proxyd to DNS", proxyd, dns, 53, true},
	})
	spec := one(t, objects, "Deployment", "feed").Spec.Template.Spec
	if len(spec.Init) > 0 || len(spec.Volumes) > 0 {
		t.Errorf("the feed still has parts of the sidecar: %+v", spec)
	}
	environ := map[string]string{}
	for _, e := range spec.Containers[0].Env {
		environ[e.Name] = e.Value
	}
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		if environ[name] != "http://$(PROXYD_SERVICE_HOST):8877" {
			t.Errorf("%s=%s", name, environ[name])
		}
	}
}
