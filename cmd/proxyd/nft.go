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
	"proxyd/internal/isolate"
)

// defaultTransparentPort is the port of the documents' transparent listener.
const defaultTransparentPort = 8879

// nftOptions are the flags of nft.
type nftOptions struct {
	uids, cgroups           []string
	pod                     bool
	exceptUID, exceptCgroup string
	except                  []string
	port                    uint16
	dns                     string
}

// noRules is a text that nft refuses, so that "proxyd nft … | nft -f -" fails with
// proxyd nft: without it nft would load nothing, and call that a success.
const noRules = "proxyd nft has failed: there are no rules to load\n"

func nftCommand() *cobra.Command {
	var o nftOptions
	cmd := &cobra.Command{
		Use:   "nft (--uid NAME | --cgroup PATH | --pod --except-uid UID)",
		Short: "Print nftables rules that redirect a service to the transparent listener",
		Long: `Print nftables rules that redirect the TCP connections of users, of cgroups or of a
pod to the transparent listener, over IPv4 and IPv6, and reject what is not
redirected: UDP, and connections from before. Loopback is left alone. The command
changes nothing; to apply the rules, pipe them to nft. Rules that it made before are
replaced, so name all users in one command. This takes them back, and ends what they
have redirected: nft delete table inet proxyd. If nothing can be printed, the nft
that reads the output fails too.

The port is --port, else that of the configuration's transparent listener, else 8879.
Queries to the name servers of this machine's resolv.conf stay open unless --dns
reject. See docs/any-program.md.`,
		Example: `  proxyd nft --uid feed | nft -f -
  proxyd nft --cgroup system.slice/feed.service --except 10.0.0.0/8
  proxyd nft --pod --except-uid 8877`,
		Args: cobra.ArbitraryArgs,
	}
	printsScript(cmd, o.print, func() string { return noRules })
	flags := cmd.Flags()
	flags.StringArrayVar(&o.uids, "uid", nil, "redirect what processes of the user `NAME` open; a number, too; may be repeated")
	flags.StringArrayVar(&o.cgroups, "cgroup", nil, "redirect what processes of the cgroup `PATH` open, such as system.slice/feed.service; may be repeated")
	flags.BoolVar(&o.pod, "pod", false, "redirect all that this network namespace opens, with --except-uid")
	flags.StringVar(&o.exceptUID, "except-uid", "", "leave out what the user `UID` opens: the one that proxyd runs as")
	flags.StringVar(&o.exceptCgroup, "except-cgroup", "", "leave out the cgroup `PATH`: proxyd's own, where it runs as the same user")
	flags.StringArrayVar(&o.except, "except", nil, "a `CIDR` that is reached directly; may be repeated")
	flags.Uint16Var(&o.port, "port", 0, "the `PORT` of the transparent listener (default: that of the configuration, or 8879)")
	flags.StringVar(&o.dns, "dns", "open", "name queries: `open` to the machine's name servers, or reject")
	return cmd
}

// print writes the rules.
func (o *nftOptions) print(cmd *cobra.Command) error {
	if err := o.check(); err != nil {
		return err
	}
	port, comments, err := o.listener(configPath(cmd))
	if err != nil {
		return err
	}
	s := isolate.Service{UIDs: o.uids, Cgroups: o.cgroups, ExceptUID: o.exceptUID, ExceptCgroup: o.exceptCgroup, Port: port, RejectDNS: o.dns == "reject"}
	for _, e := range o.except {
		if p, err := prefix(e); err == nil { // it was checked
			s.Except = append(s.Except, p)
		}
	}
	if !s.RejectDNS {
		s.NameServers = nameServers("/etc/resolv.conf")
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), s.Rules(slices.Concat(comments, o.remarks(s.NameServers))))
	return err
}

var (
	userWord   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	cgroupWord = regexp.MustCompile(`^[A-Za-z0-9_.@:\\-]+(/[A-Za-z0-9_.@:\\-]+)*$`)
)

// check returns a usage error for flags that do not go together, and for text that
// rules cannot hold.
func (o *nftOptions) check() error {
	o.exceptCgroup = strings.Trim(o.exceptCgroup, "/")
	for i := range o.cgroups {
		o.cgroups[i] = strings.Trim(o.cgroups[i], "/")
	}
	given := 0
	for _, set := range []bool{len(o.uids) > 0, len(o.cgroups) > 0, o.pod} {
		if set {
			given++
		}
	}
	switch {
	case given != 1:
		return usageError{errors.New("say whose connections to redirect: one of --uid NAME, --cgroup PATH, or --pod --except-uid UID")}
	case o.pod && o.exceptUID == "" && o.exceptCgroup == "":
		return usageError{errors.New("--pod redirects proxyd's own connections too; name the user that it runs as: --except-uid UID")}
	case o.exceptUID != "" && slices.Contains(o.uids, o.exceptUID):
		return usageError{fmt.Errorf("--except-uid %s leaves all of --uid out; run proxyd as another user, or name its cgroup: --except-cgroup", o.exceptUID)}
	case o.exceptCgroup != "" && slices.Contains(o.cgroups, o.exceptCgroup):
		return usageError{fmt.Errorf("--except-cgroup %s leaves all of --cgroup out; name a cgroup below it", o.exceptCgroup)}
	}
	if err := words("uid", userWord, "is not the name of a user", o.uids, o.exceptUID); err != nil {
		return err
	}
	if err := words("cgroup", cgroupWord, "is not the path of a cgroup; write it as below /sys/fs/cgroup, such as system.slice/feed.service", o.cgroups, o.exceptCgroup); err != nil {
		return err
	}
	for _, e := range o.except {
		switch p, err := prefix(e); {
		case err != nil:
			return usageError{fmt.Errorf("--except %q is not a CIDR; write 10.0.0.0/8", e)}
		case p.Bits() == 0:
			return usageError{fmt.Errorf("--except %s would let everything out", e)}
		}
	}
	return oneOf("dns", o.dns, "open", "reject")
}

// words returns a usage error if a value of a flag, or that of its --except, does not
// match.
func words(flag string, word *regexp.Regexp, is string, list []string, except string) error {
	if except != "" && !word.MatchString(except) {
		return usageError{fmt.Errorf("--except-%s %q %s", flag, except, is)}
	}
	for _, v := range list {
		if !word.MatchString(v) {
			return usageError{fmt.Errorf("--%s %q %s", flag, v, is)}
		}
	}
	return nil
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
		return o.port, []string{"The configuration needs a transparent listener at this port, for each family:", fmt.Sprintf(add, o.port)}, nil
	}
	c, _, err := load(path, config.Options{NoSecrets: true})
	if err != nil {
		return 0, nil, err
	}
	families, elsewhere := map[bool]bool{}, ""
	for _, l := range c.Listen {
		host, text, err := net.SplitHostPort(l.Address)
		n, bad := strconv.ParseUint(text, 10, 16)
		if !l.Transparent || err != nil || bad != nil || n == 0 || port != 0 && port != uint16(n) {
			continue
		}
		ip, err := netip.ParseAddr(host) // a redirect leads to 127.0.0.1 and ::1 alone
		if err == nil && !ip.IsUnspecified() && ip != netip.AddrFrom4([4]byte{127, 0, 0, 1}) && ip != netip.IPv6Loopback() {
			elsewhere = l.Address
			continue
		}
		port = uint16(n)
		for _, v6 := range []bool{false, true} {
			families[v6] = families[v6] || err != nil || ip.Is6() == v6 || ip == netip.IPv6Unspecified()
		}
	}
	switch {
	case port == 0 && elsewhere != "":
		return 0, nil, fmt.Errorf("what the rules redirect comes to loopback, and the transparent listener is at %s; give it 127.0.0.1 and [::1], or name another: --port", elsewhere)
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
	case o.pod:
		list = append(list, "For the network namespace of a pod: elsewhere this redirects every user of the machine.",
			"Istio and Cilium redirect in a pod too: see docs/any-program.md.")
	case len(o.cgroups) > 0:
		list = append(list, "nft looks a cgroup up when it loads this: it must exist then, and rules are loaded again when it is made again.")
	case o.exceptCgroup == "":
		list = append(list, "proxyd must run as another user than "+strings.Join(o.uids, ", ")+", or its own connections come back to it; else name its cgroup: --except-cgroup.")
	}
	return list
}
