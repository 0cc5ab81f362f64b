package isolate

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is the table of the rules.
const tableName = "proxyd"

// setRules has every TCP connection come to the transparent listener, every query
// of port 53 to the resolver, and all else refused, except what stays on loopback
// and what is for local, addresses that the configuration listens on.
//
//	table inet proxyd {
//	    counter refused-udp {}
//	    counter refused-other {}
//	    set closed { type inet_service; size 32; flags dynamic }
//	    chain redirect {
//	        type nat hook output priority dstnat
//	        udp dport 53 redirect to :DNS
//	        tcp dport 53 redirect to :DNS
//	        ip daddr { 127.0.0.0/8, OWN } return
//	        ip6 daddr ::1 return
//	        ip daddr LOCAL tcp dport PORT return
//	        meta l4proto tcp redirect to :TRANSPARENT
//	    }
//	    chain refuse {
//	        type filter hook output priority filter
//	        tcp flags == rst|ack tcp sequence 0 ip daddr 127.0.0.0/8 add @closed { tcp sport }
//	        ct state established,related accept
//	        (the same addresses) accept
//	        meta l4proto udp counter name refused-udp reject with icmpx port-unreachable
//	        counter name refused-other reject with icmpx port-unreachable
//	    }
//	}
//
// The rejection is at the output hook, after the redirection: to send fails with
// "operation not permitted". At the input hook the error would come back later, and a
// socket of UDP that is not connected, as those of QUIC often are, would never see it.
// To connect such a socket still succeeds: programs do that to learn their address.
func setRules(transparent, resolver uint16, local []netip.AddrPort) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName})
	redirect := c.AddChain(&nftables.Chain{Name: "redirect", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	refuse := c.AddChain(&nftables.Chain{Name: "refuse", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter})
	add := func(chain *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: all})
	}
	add(redirect, protocol(unix.IPPROTO_UDP), toPort(53), redirectTo(resolver))
	add(redirect, protocol(unix.IPPROTO_TCP), toPort(53), redirectTo(resolver))
	closed := &nftables.Set{Table: table, Name: closedPorts, KeyType: nftables.TypeInetService, Dynamic: true, Size: maxClosed}
	if err := c.AddSet(closed, nil); err != nil {
		return err
	}
	add(refuse, answersSYN(), toAddress(netip.MustParsePrefix("127.0.0.0/8")), noted(closed))
	add(refuse, established(), verdict(expr.VerdictAccept))
	for _, p := range []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.PrefixFrom(own, 32)} {
		add(redirect, toAddress(p), verdict(expr.VerdictReturn))
		add(refuse, toAddress(p), verdict(expr.VerdictAccept))
	}
	for _, l := range local {
		at := netip.PrefixFrom(l.Addr(), l.Addr().BitLen())
		add(redirect, toAddress(at), protocol(unix.IPPROTO_TCP), toPort(l.Port()), verdict(expr.VerdictReturn))
		add(refuse, toAddress(at), protocol(unix.IPPROTO_TCP), toPort(l.Port()), verdict(expr.VerdictAccept))
	}
	add(redirect, protocol(unix.IPPROTO_TCP), redirectTo(transparent))
	for _, name := range []string{countUDP, countOther} {
		c.AddObj(&nftables.NamedObj{Table: table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	}
	add(refuse, protocol(unix.IPPROTO_UDP), counted(countUDP), reject())
	add(refuse, counted(countOther), reject())
	return c.Flush()
}

func protocol(p byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}}}
}

// toPort matches the destination's port, of TCP or UDP.
func toPort(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
	}
}

// answersSYN matches the reset by which a closed port answers: its sequence number is 0.
func answersSYN() []expr.Any {
	return append(protocol(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0x14}}, // RST and ACK
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 4, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)})
}

// noted adds the source's port to a set; one that is full stays as it is.
func noted(set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Dynset{SrcRegKey: 1, SetName: set.Name, SetID: set.ID, Operation: uint32(unix.NFT_DYNSET_OP_ADD)},
	}
}

// toAddress matches the destination's address, of the prefix's family.
func toAddress(p netip.Prefix) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4)
	if p.Addr().Is6() {
		family, offset, size = unix.NFPROTO_IPV6, 24, 16
	}
	mask := ipNet(p).Mask
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func established() []expr.Any {
	state := binary.NativeEndian.AppendUint32(nil, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: state, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func redirectTo(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

// counted adds a packet to a named counter.
func counted(name string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: name}}
}

func reject() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
