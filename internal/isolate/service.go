package isolate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Service says whose connections Rules redirect. Without users and cgroups it is
// everything that a network namespace opens.
type Service struct {
	UIDs, Cgroups           []string // names or numbers of users; paths below /sys/fs/cgroup
	ExceptUID, ExceptCgroup string   // proxyd's own, or ""
	Except                  []netip.Prefix
	Port                    uint16 // of the transparent listener on loopback
	NameServers             []netip.Prefix
	RejectDNS               bool
}

// Rules returns a script for nft that begins with the remarks. Packets that belong to
// no socket (answers of the kernel) match no user and no cgroup, and are let through.
func (s *Service) Rules(remarks []string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("#!/usr/sbin/nft -f")
	line("# Made by proxyd nft. Apply: nft -f FILE; it replaces what it made before. Undo: nft delete table inet proxyd.")
	for _, r := range remarks {
		line("# %s", r)
	}
	line("table inet proxyd\ndelete table inet proxyd\ntable inet proxyd {") // the first line is for the second, if there is no table
	s.base(line, "nat_output", "type nat hook output priority -100; policy accept;", "to_proxyd")
	s.base(line, "filter_output", "type filter hook output priority 0; policy accept;", "not_redirected")
	line("\tchain to_proxyd {")
	s.open(line)
	line("\t\tmeta l4proto tcp redirect to :%d\n\t}", s.Port)
	line("\tchain not_redirected {")
	line("\t\tct direction reply accept") // what the service answers
	line("\t\ticmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld2-listener-report } accept")
	s.open(line)
	line("\t\tmeta l4proto tcp counter reject with tcp reset")
	line("\t\tcounter reject with icmpx port-unreachable\n\t}\n}")
	return b.String()
}

// base writes a chain at a hook, from which what the service sends jumps to another.
func (s *Service) base(line func(string, ...any), name, hook, to string) {
	line("\tchain %s {\n\t\t%s", name, hook)
	if s.ExceptUID != "" {
		line("\t\tmeta skuid %s accept", nftUser(s.ExceptUID))
	}
	if s.ExceptCgroup != "" {
		line("\t\t%s accept", nftCgroup(s.ExceptCgroup))
	}
	for _, uid := range s.UIDs {
		line("\t\tmeta skuid %s jump %s", nftUser(uid), to)
	}
	for _, path := range s.Cgroups {
		line("\t\t%s jump %s", nftCgroup(path), to)
	}
	if len(s.UIDs)+len(s.Cgroups) == 0 {
		line("\t\tjump %s", to)
	}
	line("\t}")
}

// open writes the rules for what is neither redirected nor rejected.
func (s *Service) open(line func(string, ...any)) {
	if s.RejectDNS {
		line("\t\tudp dport 53 counter reject with icmpx port-unreachable")
		line("\t\ttcp dport 53 counter reject with tcp reset")
	}
	line("\t\tfib daddr type local accept")
	nftAddresses(s.Except, func(match string) { line("\t\t%s accept", match) })
	nftAddresses(s.NameServers, func(match string) { line("\t\t%s meta l4proto { tcp, udp } th dport 53 accept", match) })
}

// nftUser returns a user as nft reads it.
func nftUser(s string) string {
	if _, err := strconv.ParseUint(s, 10, 32); err == nil {
		return s
	}
	return strconv.Quote(s)
}

// nftCgroup returns the match of a cgroup's processes, with those below it.
func nftCgroup(path string) string {
	return fmt.Sprintf(`socket cgroupv2 level %d "%s"`, strings.Count(path, "/")+1, path)
}

// nftAddresses calls f with the match of the addresses of each family.
func nftAddresses(list []netip.Prefix, f func(match string)) {
	for _, family := range []string{"ip", "ip6"} {
		var texts []string
		for _, p := range list {
			if p.Addr().Is6() == (family == "ip6") {
				texts = append(texts, p.String())
			}
		}
		if len(texts) > 0 {
			f(family + " daddr { " + strings.Join(texts, ", ") + " }")
		}
	}
}
