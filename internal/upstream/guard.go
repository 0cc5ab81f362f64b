package upstream

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/target"
)

// guard keeps connections away from what they must not reach by accident, or by
// a client's intent: direct ones from all that is not the public internet,
// those through a proxy on this machine from what only this machine reaches,
// and every one from proxyd itself and from a cloud's metadata service.
type guard struct {
	allow []netip.Prefix // private addresses that the configuration allows
	own   func(netip.AddrPort) bool
	names *localNames
}

// newGuard collects what the configuration allows: allow_private, and the
// CIDRs of routes that say direct.
func newGuard(c *config.Config, own func(netip.AddrPort) bool) *guard {
	g := &guard{own: own, allow: slices.Clone(c.AllowPrivate), names: newLocalNames()}
	for _, r := range c.Routes {
		if r.Outbound.Action != config.Direct {
			continue
		}
		for _, p := range r.Hosts {
			if p.Kind == target.CIDR {
				g.allow = append(g.allow, p.Prefix)
			}
		}
	}
	return g
}

// metadata are the clouds' metadata services, which hand out credentials, each
// with the document that names it. Most clouds that are not listed use the first
// one.
var metadata = []struct{ prefix, cloud, source string }{
	{"169.254.169.254/32", "AWS, Azure, Google, Oracle, OpenStack and others", "docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html"},
	{"fd00:ec2::/32", "AWS: IMDS ::254, EKS ::23", "docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html"},
	{"169.254.170.2/32", "AWS ECS", "docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html"},
	{"169.254.170.23/32", "AWS EKS", "docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html"},
	{"168.63.129.16/32", "Azure", "learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16"},
	{"fd20:ce::254/128", "Google", "cloud.google.com/compute/docs/metadata/querying-metadata"},
	{"169.254.169.252/32", "Google GKE", "cloud.google.com/kubernetes-engine/docs/concepts/workload-identity"},
	{"fd00:c1::a9fe:a9fe/128", "Oracle", "github.com/oracle/oci-python-sdk, instance_principals_security_token_signer.py"},
	{"192.0.0.192/32", "Oracle Classic", "docs.oracle.com/en/cloud/iaas/compute-iaas-cloud, Retrieving Instance Metadata"},
	{"100.100.100.200/32", "Alibaba", "www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata"},
	{"fd00:100::100:200/128", "Alibaba", "www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata"},
	{"169.254.0.23/32", "Tencent", "www.tencentcloud.com/document/product/213/4934"},
	{"169.254.10.10/32", "Tencent", "www.tencentcloud.com/document/product/213/4934"},
	{"169.254.42.42/32", "Scaleway", "cloudinit.readthedocs.io/en/latest/reference/datasources/scaleway.html"},
	{"fd00:42::42/128", "Scaleway", "cloudinit.readthedocs.io/en/latest/reference/datasources/scaleway.html"},
	{"fd00:a9fe:a9fe::1/128", "Akamai", "cloudinit.readthedocs.io/en/latest/reference/datasources/akamai.html"},
	{"fe80::a9fe:a9fe/128", "OpenStack", "docs.openstack.org/nova/latest/user/metadata.html"},
}

var metadataPrefixes = func() (list []netip.Prefix) {
	for _, m := range metadata {
		list = append(list, netip.MustParsePrefix(m.prefix))
	}
	return list
}()

// metadataNames are the names that lead there on the clouds' own name servers.
var metadataNames = []string{
	"metadata.google.internal", "metadata.goog", "metadata", // Google
	"instance-data", "instance-data.ec2.internal", // AWS
	"metadata.tencentyun.com", "api.metadata.cloud.ibm.com", "metadata.platformequinix.com",
}

func isMetadata(ip netip.Addr) bool {
	return slices.ContainsFunc(metadataPrefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// special are the ranges of IANA's special-purpose address registries (RFC 6890)
// that are not globally reachable, beside those that netip names itself and those
// that hide an IPv4 address (target.Embedded).
var special = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a carrier's private address"},
	{netip.MustParsePrefix("192.0.0.0/24"), "a reserved address"},
	{netip.MustParsePrefix("192.0.2.0/24"), documentation},
	{netip.MustParsePrefix("198.51.100.0/24"), documentation},
	{netip.MustParsePrefix("203.0.113.0/24"), documentation},
	{netip.MustParsePrefix("192.88.99.0/24"), "a reserved address"}, // 6to4 relays, gone (RFC 7526)
	{fakeV4, "a benchmarking address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},
	{netip.MustParsePrefix("fec0::/10"), "a site-local address"},
	{netip.MustParsePrefix("100::/64"), "a discard address"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "a discard address"},
	{netip.MustParsePrefix("2001:2::/48"), "a benchmarking address"},
	{netip.MustParsePrefix("2001:10::/28"), "a reserved address"}, // ORCHID, gone
	{netip.MustParsePrefix("2001:db8::/32"), documentation},
	{netip.MustParsePrefix("3fff::/20"), documentation},
	{netip.MustParsePrefix("5f00::/16"), "a segment routing address"},
}

const documentation = "an address for documentation"

// The ranges out of which name servers with "fake IP" answer: Clash and mihomo,
// sing-box, Xray, Surge. The program behind them maps the address back.
var (
	fakeV4 = netip.MustParsePrefix("198.18.0.0/15")
	fakeV6 = netip.MustParsePrefix("fc00::/18")
)

// check gives nil if a direct connection may go to a, the address that is really
// dialled, else a denied error that says what to add. trusted is Target.Trusted.
func (g *guard) check(a netip.AddrPort, trusted bool) *failure.Error {
	ip := a.Addr().Unmap()
	if e := g.never(a); e != nil {
		return e
	}
	if trusted || g.allows(ip) {
		return nil
	}
	what := private(ip)
	if hidden := embedded(ip); what == "" && hidden.IsValid() {
		what = "an IPv6 form that hides " + hidden.String()
	}
	if what == "" {
		return nil
	}
	return failure.New(failure.Denied, "%s is %s, which direct connections do not reach", ip, what).With(nil, toAllow(ip))
}

// never refuses an address that no outbound reaches, whatever is allowed.
func (g *guard) never(a netip.AddrPort) *failure.Error {
	ip := a.Addr().Unmap()
	for _, real := range []netip.Addr{ip, embedded(ip)} {
		switch {
		case !real.IsValid():
		case isMetadata(real):
			return metadataFault(ip.String())
		case g.own != nil && g.own(netip.AddrPortFrom(real, a.Port())):
			return ownFaultOf(netip.AddrPortFrom(ip, a.Port()).String())
		}
	}
	return nil
}

// neverTo is never for a target as the client named it, before any outbound is
// dialled. A hop is what the configuration names, and may be a proxyd of another
// machine at the same address.
func (g *guard) neverTo(t *Target) *failure.Error {
	switch {
	case t.Hop:
		return nil
	case t.IP.IsValid():
		return g.never(netip.AddrPortFrom(t.IP, t.Port))
	case slices.Contains(metadataNames, t.Host):
		return metadataFault(t.Host)
	case g.own == nil || !g.own(netip.AddrPortFrom(netip.IPv4Unspecified(), t.Port)): // no port of ours
		return nil
	}
	for _, a := range g.names.addresses(t.Host) {
		if g.own(netip.AddrPortFrom(a, t.Port)) {
			return ownFaultOf(hostPort(*t))
		}
	}
	return nil
}

func metadataFault(host string) *failure.Error {
	return failure.New(failure.Denied, "%s is a cloud's metadata service, which is never proxied", host).With(nil, "have the client keep it to itself: NO_PROXY=169.254.169.254")
}

func ownFaultOf(at string) *failure.Error {
	return failure.New(failure.Denied, "%s is proxyd itself", at).With(nil, "a connection would loop; check the target, or NO_PROXY of the client")
}

// beside gives nil if a proxy on this machine may be asked for t: to that one,
// loopback is ours. A name is refused where this machine alone gives it such an
// address; what a name server says of it only the proxy learns.
func (g *guard) beside(t *Target) *failure.Error {
	if t.Trusted || t.Named || t.Hop {
		return nil
	}
	addrs := []netip.Addr{t.IP.Unmap()}
	if !t.IP.IsValid() {
		addrs = g.names.addresses(t.Host)
	}
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(ip netip.Addr) bool {
		return g.allows(ip) || !besideOnly(ip) && !besideOnly(embedded(ip))
	})
	if len(addrs) == 0 {
		return nil
	}
	var what string
	if !t.IP.IsValid() {
		what = addrs[0].String() + " here"
	} else if what = private(addrs[0]); what == "" {
		what = "an IPv6 form that hides " + embedded(addrs[0]).String()
	}
	return failure.New(failure.Denied, "%s is %s, which is not reached through a proxy on this machine", t.Host, what).With(nil, toAllow(addrs...))
}

// Refuses returns why no member of the pool will be asked for a target, as far as
// that can be told without asking a name server; nil if one may be.
func (p *Pool) Refuses(t Target) *failure.Error {
	var why *failure.Error
	for i := range p.members {
		m := &p.members[i]
		if !m.Enabled {
			continue
		}
		e := p.set.guard.neverTo(&t)
		switch {
		case e != nil:
		case m.IsDirect() && t.IP.IsValid():
			e = p.set.guard.check(netip.AddrPortFrom(t.IP, t.Port), t.Trusted)
		case m.via == nil && (m.url.Host.IP.IsLoopback() || len(p.set.guard.names.addresses(m.url.Host.Name)) > 0):
			e = p.set.guard.beside(&t)
		}
		if e == nil {
			return nil
		}
		why = e
	}
	return why
}

// besideOnly reports whether an address is reached from this machine, or from
// its own link, alone.
func besideOnly(ip netip.Addr) bool {
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.Is4() && ip.As4()[0] == 0 || ip == netip.IPv6Unspecified()
}

func (g *guard) allows(ip netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// toAllow says what to do for those addresses to be reached.
func toAllow(addrs ...netip.Addr) string {
	var cidrs []string
	for _, ip := range addrs {
		cidr := netip.PrefixFrom(ip, ip.BitLen()).String()
		if ip.Is6() { // "::1/128" is no YAML without quotes
			cidr = strconv.Quote(cidr)
		}
		cidrs = append(cidrs, cidr)
	}
	const fake = "a name server with fake addresses (Clash, mihomo, sing-box) answers so; if one runs on this machine, add allow_private: ["
	switch {
	case fakeV4.Contains(addrs[0]):
		return fake + fakeV4.String() + "]"
	case fakeV6.Contains(addrs[0]):
		return fake + strconv.Quote(fakeV6.String()) + "]"
	}
	line := "add allow_private: [" + strings.Join(cidrs, ", ") + "]"
	if addrs[0].IsLoopback() {
		return "have the client keep local addresses to itself (NO_PROXY=localhost,127.0.0.1,::1), or " + line
	}
	return "to allow it, " + line
}

// notOurselves refuses an upstream that is proxyd itself. nil if it is not.
func (g *guard) notOurselves(addrs []netip.Addr, port uint16) error {
	for _, a := range addrs {
		if at := netip.AddrPortFrom(a.Unmap(), port); g.own != nil && g.own(at) {
			return failure.New(failure.Denied, "proxy_loop_detected: the upstream %s is proxyd itself", at).With(nil, "a connection would go round; check the upstream's address")
		}
	}
	return nil
}

// private says what kind of not-public address ip is, "" if it is public.
func private(ip netip.Addr) string {
	switch {
	case ip.IsUnspecified():
		return "an unspecified address"
	case ip.IsLoopback():
		return "this machine"
	case ip.IsPrivate():
		return "a private address"
	case ip.IsLinkLocalUnicast():
		return "a link-local address"
	case ip.IsMulticast():
		return "a multicast address"
	}
	for _, s := range special {
		if s.prefix.Contains(ip) {
			return s.what
		}
	}
	return ""
}

func embedded(ip netip.Addr) netip.Addr {
	if v4, ok := target.Embedded(ip); ok {
		return v4
	}
	return netip.Addr{}
}
