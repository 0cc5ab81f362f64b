package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"proxyd/internal/config"
)

// defaultTransparentPort is the port of the documents' transparent listener.
const defaultTransparentPort = 8879

// nftOptions are the flags of nft.
type nftOptions struct {
	uid, cgroup             string
	pod                     bool
	exceptUID, exceptCgroup string
	except                  []string
	port                    uint16
	dns                     string
}

func nftCommand() *cobra.Command {
	var o nftOptions
	cmd := &cobra.Command{
		Use:   "nft (--uid NAME | --cgroup PATH | --pod --except-uid UID)",
		Short: "Print nftables rules that redirect a service to the transparent listener",
		Long: `Print nftables rules that redirect the TCP connections of a user, of a cgroup or of
a pod to the transparent listener, over IPv4 and IPv6, and reject what is not
redirected: UDP, and connections from before. Loopback is left alone. The command
changes nothing; to apply the rules, pipe them to nft. To apply them again replaces
them, and this takes them back: nft delete table inet proxyd.

The port is that of the configuration's transparent listener, else --port, else 8879.
Queries to the name servers of this machine's resolv.conf stay open unless --dns
reject. See docs/any-program.md.`,
		Example: `  proxyd nft --uid feed | nft -f -
  proxyd nft --cgroup system.slice/feed.service --except 10.0.0.0/8
  proxyd nft --pod --except-uid 65532`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			port, comments, err := o.listener(configPath(cmd))
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), o.script(port, comments, nameServers("/etc/resolv.conf")))
			return err
		},
	}
	cmd.Flags().StringVar(&o.uid, "uid", "", "redirect what processes of the user `NAME` open; a number, too")
	cmd.Flags().StringVar(&o.cgroup, "cgroup", "", "redirect what processes of the cgroup `PATH` open, such as system.slice/feed.service")
	cmd.Flags().BoolVar(&o.pod, "pod", false, "redirect all that this network namespace opens, with --except-uid")
	cmd.Flags().StringVar(&o.exceptUID, "except-uid", "", "leave out what the user `UID` opens: the one that proxyd runs as")
	cmd.Flags().StringVar(&o.exceptCgroup, "except-cgroup", "", "leave out the cgroup `PATH`: proxyd's own, where it runs as the same user")
	cmd.Flags().StringSliceVar(&o.except, "except", nil, "a `CIDR` that is reached directly; may be repeated")
	cmd.Flags().Uint16Var(&o.port, "port", 0, "the `PORT` of the transparent listener (default: that of the configuration, or 8879)")
	cmd.Flags().StringVar(&o.dns, "dns", "open", "name queries: `open` to the machine's name servers, or reject")
	return cmd
}

var (
	userWord   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	cgroupWord = regexp.MustCompile(`^[A-Za-z0-9_.@:\\-]+(/[A-Za-z0-9_.@:\\-]+)*$`)
)

// check returns a usage error for flags that do not go together, and for text that
// rules cannot hold.
func (o *nftOptions) check() error {
	o.cgroup, o.exceptCgroup = strings.Trim(o.cgroup, "/"), strings.Trim(o.exceptCgroup, "/")
	given := 0
	for _, set := range []bool{o.uid != "", o.cgroup != "", o.pod} {
		if set {
			given++
		}
	}
	switch {
	case given != 1:
		return usageError{errors.New("say whose connections to redirect: one of --uid NAME, --cgroup PATH, or --pod --except-uid UID")}
	case o.pod && o.exceptUID == "" && o.exceptCgroup == "":
		return usageError{errors.New("--pod redirects proxyd's own connections too; name the user that it runs as: --except-uid UID")}
	case o.uid != "" && o.uid == o.exceptUID:
		return usageError{fmt.Errorf("--except-uid %s leaves all of --uid out; run proxyd as another user, or name its cgroup: --except-cgroup", o.uid)}
	}
	for flag, user := range map[string]string{"--uid": o.uid, "--except-uid": o.exceptUID} {
		if user != "" && !userWord.MatchString(user) {
			return usageError{fmt.Errorf("%s %q is not the name of a user", flag, user)}
		}
	}
	for flag, path := range map[string]string{"--cgroup": o.cgroup, "--except-cgroup": o.exceptCgroup} {
		if path != "" && !cgroupWord.MatchString(path) {
			return usageError{fmt.Errorf("%s %q is not the path of a cgroup; write it as below /sys/fs/cgroup, such as system.slice/feed.service", flag, path)}
		}
	}
	for _, e := range o.except {
		if _, err := prefix(e); err != nil {
			return usageError{fmt.Errorf("--except %q is not a CIDR; write 10.0.0.0/8", e)}
		}
	}
	return oneOf("dns", o.dns, "open", "reject")
}

// prefix parses a CIDR or an address.
func prefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.WithZone(""), a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// listener returns the port to redirect to, and what to add to the configuration.
func (o *nftOptions) listener(path string) (port uint16, comments []string, err error) {
	const add = `listen: [{address: "127.0.0.1:%[1]d", transparent: true}, {address: "[::1]:%[1]d", transparent: true}]`
	if o.port != 0 {
		return o.port, nil, nil
	}
	c, _, err := load(path, config.Options{NoSecrets: true})
	if err != nil {
		return 0, nil, err
	}
	families := map[bool]bool{}
	for _, l := range c.Listen {
		host, text, err := net.SplitHostPort(l.Address)
		n, bad := strconv.ParseUint(text, 10, 16)
		if !l.Transparent || err != nil || bad != nil || n == 0 || port != 0 && port != uint16(n) {
			continue
		}
		port = uint16(n)
		ip, err := netip.ParseAddr(host)
		for _, v6 := range []bool{false, true} {
			families[v6] = families[v6] || err != nil || ip.Is6() == v6 || ip == netip.IPv6Unspecified()
		}
	}
	switch {
	case port == 0:
		port = defaultTransparentPort
		return port, []string{"The configuration has no transparent listener. Add one for each family:", fmt.Sprintf(add, port)}, nil
	case !families[false]:
		comments = append(comments, fmt.Sprintf("No transparent listener is of IPv4: add 127.0.0.1:%d, or connections of IPv4 are refused.", port))
	case !families[true]:
		comments = append(comments, fmt.Sprintf("No transparent listener is of IPv6: add [::1]:%d, or connections of IPv6 are refused.", port))
	}
	return port, comments, nil
}

// nameServers returns the name servers of a resolv.conf, without those on loopback,
// which the rules leave alone.
func nameServers(file string) (list []netip.Prefix) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if p, err := prefix(f[1]); err == nil && !p.Addr().IsLoopback() && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// script returns the rules. Packets that belong to no socket (answers of the kernel)
// match no user and no cgroup, and are let through.
func (o *nftOptions) script(port uint16, comments []string, servers []netip.Prefix) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("#!/usr/sbin/nft -f")
	line("# Made by proxyd nft. Apply: nft -f FILE; it replaces what it made before. Undo: nft delete table inet proxyd.")
	for _, c := range slices.Concat(comments, o.remarks(servers)) {
		line("# %s", c)
	}
	line("table inet proxyd\ndelete table inet proxyd\ntable inet proxyd {")
	for _, c := range []struct{ base, hook, chain string }{
		{"nat_output", "type nat hook output priority -100; policy accept;", "to_proxyd"},
		{"filter_output", "type filter hook output priority 0; policy accept;", "not_redirected"},
	} {
		line("\tchain %s {\n\t\t%s", c.base, c.hook)
		if o.exceptUID != "" {
			line("\t\tmeta skuid %s accept", nftUser(o.exceptUID))
		}
		if o.exceptCgroup != "" {
			line("\t\t%s accept", nftCgroup(o.exceptCgroup))
		}
		switch {
		case o.uid != "":
			line("\t\tmeta skuid %s jump %s", nftUser(o.uid), c.chain)
		case o.cgroup != "":
			line("\t\t%s jump %s", nftCgroup(o.cgroup), c.chain)
		default:
			line("\t\tjump %s", c.chain)
		}
		line("\t}")
	}
	line("\tchain to_proxyd {")
	o.open(line, servers)
	line("\t\tmeta l4proto tcp redirect to :%d\n\t}", port)
	line("\tchain not_redirected {")
	line("\t\tct direction reply accept") // what the service answers
	line("\t\ticmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld2-listener-report } accept")
	o.open(line, servers)
	line("\t\tmeta l4proto tcp counter reject with tcp reset")
	line("\t\tcounter reject with icmpx port-unreachable\n\t}\n}")
	return b.String()
}

// open writes the rules for what is neither redirected nor rejected.
func (o *nftOptions) open(line func(string, ...any), servers []netip.Prefix) {
	if o.dns == "reject" {
		line("\t\tudp dport 53 counter reject with icmpx port-unreachable")
		line("\t\ttcp dport 53 counter reject with tcp reset")
	}
	line("\t\tfib daddr type local accept")
	var except []netip.Prefix
	for _, e := range o.except {
		if p, err := prefix(e); err == nil { // it was checked
			except = append(except, p)
		}
	}
	nftAddresses(except, func(match string) { line("\t\t%s accept", match) })
	if o.dns != "reject" {
		nftAddresses(servers, func(match string) { line("\t\t%s meta l4proto { tcp, udp } th dport 53 accept", match) })
	}
}

// remarks returns what whoever reads the rules should know.
func (o *nftOptions) remarks(servers []netip.Prefix) (list []string) {
	switch {
	case o.dns == "reject":
		list = append(list, "Name queries are rejected: the service must connect by address, or have names in /etc/hosts.")
	case len(servers) == 0:
		list = append(list, "Name queries go to the resolver on loopback, which asks name servers: names can leak. --dns reject refuses them.")
	default:
		list = append(list, "Name queries to the name servers of this machine's /etc/resolv.conf stay open: names can leak. --dns reject refuses them.")
	}
	switch {
	case o.uid != "" && o.exceptCgroup == "":
		list = append(list, "proxyd must run as another user than "+o.uid+", or its own connections come back to it; else name its cgroup: --except-cgroup.")
	case o.cgroup != "":
		list = append(list, "nft looks the cgroup up when it loads this: "+o.cgroup+" must exist then, and rules are loaded again when it is made anew.")
	case o.pod:
		list = append(list, "Istio and Cilium redirect in a pod too; use one of them, or exclude the ports there.")
	}
	return list
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
