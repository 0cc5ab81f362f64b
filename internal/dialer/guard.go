package dialer

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"proxyd/internal/failure"
	"proxyd/internal/target"
)

// Guard keeps connections away from what they must not reach, whether by
// accident or by a client's intent: direct ones from everything but the public
// internet, those through a proxy on this machine from what only this machine
// reaches, and all of them from proxyd itself and from metadata services. It is
// safe for concurrent use. Its errors are of class denied and say what to do.
type Guard struct {
	allow []netip.Prefix // private addresses that the configuration allows
	own   func(netip.AddrPort) bool
	names *localNames
}

// NewGuard returns a guard that lets direct connections reach the private
// addresses of allow. own reports whether proxyd listens at an address; for an
// unspecified address, whether it listens anywhere on that port. It may be nil.
func NewGuard(allow []netip.Prefix, own func(netip.AddrPort) bool) *Guard {
	return &Guard{own: own, allow: allow, names: newLocalNames()}
}

// IsOwn reports whether proxyd listens at an address.
func (g *Guard) IsOwn(a netip.AddrPort) bool { return g.own != nil && g.own(a) }

// AllowsSame reports whether g and o allow the same private addresses.
func (g *Guard) AllowsSame(o *Guard) bool { return slices.Equal(g.allow, o.allow) }

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

// isMetadata reports whether ip is a metadata service.
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

// The ranges from which name servers with "fake IP" answer: Clash and mihomo,
// sing-box, Xray, Surge. That program maps the address back to the name.
var (
	fakeV4 = netip.MustParsePrefix("198.18.0.0/15")
	fakeV6 = netip.MustParsePrefix("fc00::/18")
)

// CheckDirect returns why a direct connection may not go to a, the address that
// is really dialled; nil if it may. A trusted one may go to private addresses.
func (g *Guard) CheckDirect(a netip.AddrPort, trusted bool) *failure.Error {
	ip := a.Addr().Unmap()
	if e := g.checkAddress(a); e != nil {
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

// checkAddress returns why no outbound may reach an address, whatever is allowed;
// nil if one may.
func (g *Guard) checkAddress(a netip.AddrPort) *failure.Error {
	ip := a.Addr().Unmap()
	for _, real := range []netip.Addr{ip, embedded(ip)} {
		switch {
		case !real.IsValid():
		case isMetadata(real):
			return metadataError(ip.String())
		case g.own != nil && g.own(netip.AddrPortFrom(real, a.Port())):
			return loopError(netip.AddrPortFrom(ip, a.Port()).String())
		}
	}
	return nil
}

// CheckTarget returns why no outbound may reach a target, as the client named it
// and without a look-up; nil if one may.
func (g *Guard) CheckTarget(h target.Host, port uint16) *failure.Error {
	if h.IsIP() {
		return g.checkAddress(netip.AddrPortFrom(h.IP, port))
	}
	if e := g.CheckName(h.Name); e != nil {
		return e
	}
	if g.own == nil || !g.own(netip.AddrPortFrom(netip.IPv4Unspecified(), port)) { // no port of ours
		return nil
	}
	for _, a := range g.names.addresses(h.Name) {
		if g.own(netip.AddrPortFrom(a, port)) {
			return loopError(h.Name + ":" + strconv.Itoa(int(port)))
		}
	}
	return nil
}

// CheckName returns an error for the name of a metadata service, nil for others.
func (g *Guard) CheckName(name string) *failure.Error {
	if slices.Contains(metadataNames, name) {
		return metadataError(name)
	}
	return nil
}

// IsLocalName reports whether this machine gives a normalised name an address
// that only this machine reaches.
func (g *Guard) IsLocalName(name string) bool { return len(g.names.addresses(name)) > 0 }

func metadataError(host string) *failure.Error {
	return failure.New(failure.Denied, "%s is a cloud's metadata service, which is never proxied", host).With(nil, "have the client keep it to itself: NO_PROXY=169.254.169.254")
}

func loopError(at string) *failure.Error {
	return failure.New(failure.Denied, "%s is proxyd itself", at).With(nil, "a connection would loop; check the target, or NO_PROXY of the client")
}

// CheckLocalProxy returns why a proxy on this machine may not be asked for h, nil
// if it may: its loopback addresses are ours. A name is refused if this machine's
// hosts file gives it such an address; only the proxy asks a name server.
func (g *Guard) CheckLocalProxy(h target.Host) *failure.Error {
	addrs := []netip.Addr{h.IP.Unmap()}
	if !h.IsIP() {
		addrs = g.names.addresses(h.Name)
	}
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(ip netip.Addr) bool {
		return g.allows(ip) || !isMachineLocal(ip) && !isMachineLocal(embedded(ip))
	})
	if len(addrs) == 0 {
		return nil
	}
	var what string
	if !h.IsIP() {
		what = addrs[0].String() + " here"
	} else if what = private(addrs[0]); what == "" {
		what = "an IPv6 form that hides " + embedded(addrs[0]).String()
	}
	return failure.New(failure.Denied, "%s is %s, which is not reached through a proxy on this machine", h.Name, what).With(nil, toAllow(addrs...))
}

// isMachineLocal reports whether an address is reached only from this machine, or
// from its own link.
func isMachineLocal(ip netip.Addr) bool {
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.Is4() && ip.As4()[0] == 0 || ip == netip.IPv6Unspecified()
}

// allows reports whether the configuration allows an address.
func (g *Guard) allows(ip netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// toAllow returns what to do for direct connections to reach the addresses.
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

// CheckLinkLocal returns an error for an address that only this machine's own links
// reach, in whatever form; nil for others.
func CheckLinkLocal(ip netip.Addr) *failure.Error {
	for _, real := range []netip.Addr{ip.Unmap(), embedded(ip)} {
		if real.IsLinkLocalUnicast() || real.IsLinkLocalMulticast() {
			return failure.New(failure.Denied, "%s is a link-local address", ip.Unmap()).With(nil, "name an address that is reached through a router")
		}
	}
	return nil
}

// CheckUpstream returns an error if the upstream at one of addrs is proxyd itself,
// else nil.
func (g *Guard) CheckUpstream(addrs []netip.Addr, port uint16) error {
	for _, a := range addrs {
		if at := netip.AddrPortFrom(a.Unmap(), port); g.own != nil && g.own(at) {
			return failure.New(failure.Denied, "proxy_loop_detected: the upstream %s is proxyd itself", at).With(nil, "a connection would go round; check the upstream's address")
		}
	}
	return nil
}

// private returns what kind of address ip is if it is not public, else "".
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

// embedded returns the IPv4 address that ip hides, the zero Addr if none.
func embedded(ip netip.Addr) netip.Addr {
	if v4, ok := target.Embedded(ip); ok {
		return v4
	}
	return netip.Addr{}
}
