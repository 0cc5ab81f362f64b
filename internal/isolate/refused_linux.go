package isolate

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The counters of the rules, by name, of the packets that were refused.
const (
	countUDP   = "refused-udp"
	countOther = "refused-other"
)

// closedPorts is the set of the rules that has ports of loopback, of IPv4, that were
// closed when the command connected to them; its size is maxClosed.
const (
	closedPorts = "closed"
	maxClosed   = 32
)

// readTime is how long, in seconds, the kernel may take to answer with the counters.
const readTime = 5

// Refused returns what has been refused so far. It is not safe for concurrent use.
func (n *Namespace) Refused() (RefusedPackets, error) {
	if n.counters == nil {
		return RefusedPackets{}, errors.New("no socket to read the counters by")
	}
	return readCounters(int(n.counters.Fd()))
}

// Closed returns ports of loopback inside that were closed when the command connected to
// them, in order: all of them, or the first 32. It is not safe for concurrent use.
func (n *Namespace) Closed() ([]uint16, error) {
	if n.counters == nil {
		return nil, errors.New("no socket to read the set by")
	}
	return readClosed(int(n.counters.Fd()))
}

// openCounters returns a socket of this network namespace by which a process outside
// of it reads the rules. That process has made the user namespace, which gives it the
// capability that the kernel asks the reader for.
func openCounters() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return os.NewFile(uintptr(fd), "netfilter"), nil
}

// readCounters asks for the counters of the table.
func readCounters(fd int) (r RefusedPackets, err error) {
	err = dump(fd, unix.NFT_MSG_GETOBJ, nl.NewRtAttr(unix.NFTA_OBJ_TABLE, nl.ZeroTerminated(tableName)), r.add)
	return r, err
}

// readClosed asks for the elements of the set of closed ports.
func readClosed(fd int) (ports []uint16, err error) {
	set := nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_SET, nl.ZeroTerminated(closedPorts))
	table := nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_TABLE, nl.ZeroTerminated(tableName))
	err = dump(fd, unix.NFT_MSG_GETSETELEM, &both{table, set}, func(m []byte) error {
		list, err := attributes(m)
		if err != nil {
			return err
		}
		elements, err := nl.ParseRouteAttr(list[unix.NFTA_SET_ELEM_LIST_ELEMENTS])
		for _, e := range elements {
			element, err := attributes(e.Value)
			if err != nil {
				return err
			}
			key, err := attributes(element[unix.NFTA_SET_ELEM_KEY])
			if err != nil {
				return err
			}
			if v := key[unix.NFTA_DATA_VALUE]; len(v) >= 2 {
				ports = append(ports, binary.BigEndian.Uint16(v))
			}
		}
		return err
	})
	slices.Sort(ports)
	return ports, err
}

// both are two parts of a request.
type both [2]nl.NetlinkRequestData

// Len returns the length of both.
func (b *both) Len() int { return b[0].Len() + b[1].Len() }

// Serialize returns the one, then the other.
func (b *both) Serialize() []byte { return append(b[0].Serialize(), b[1].Serialize()...) }

// dump asks for objects of nftables, and calls each with the attributes of each answer.
func dump(fd, message int, data nl.NetlinkRequestData, each func([]byte) error) error {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET})
	request.AddData(data)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: readTime}); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Sendto(fd, request.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	b := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_DONE:
				return nil
			case m.Header.Type == unix.NLMSG_ERROR:
				return os.NewSyscallError("netlink", syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data))))
			case len(m.Data) < nl.SizeofNfgenmsg:
				return errors.New("the message is too short")
			}
			if err := each(m.Data[nl.SizeofNfgenmsg:]); err != nil {
				return err
			}
		}
	}
}

// add takes the counter of one message.
func (r *RefusedPackets) add(message []byte) error {
	object, err := attributes(message)
	if err != nil {
		return err
	}
	counter, err := attributes(object[unix.NFTA_OBJ_DATA])
	if err != nil {
		return err
	}
	packets := counter[unix.NFTA_COUNTER_PACKETS]
	if len(packets) != 8 {
		return errors.New("an object has no counter")
	}
	switch count := int(binary.BigEndian.Uint64(packets)); strings.TrimRight(string(object[unix.NFTA_OBJ_NAME]), "\x00") {
	case countUDP:
		r.UDP = count
	case countOther:
		r.Other = count
	}
	return nil
}

// attributes returns the values of netlink attributes, by type.
func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	values := make(map[uint16][]byte, len(list))
	for _, a := range list {
		values[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return values, err
}
