package isolate

import (
	"encoding/binary"
	"errors"
	"os"
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

// readTime is how long, in seconds, the kernel may take to answer with the counters.
const readTime = 5

// Refused returns what has been refused so far. It is not safe for concurrent use.
func (n *Namespace) Refused() (RefusedPackets, error) {
	if n.counters == nil {
		return RefusedPackets{}, errors.New("no socket to read the counters by")
	}
	return readCounters(int(n.counters.Fd()))
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
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETOBJ, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET})
	request.AddData(nl.NewRtAttr(unix.NFTA_OBJ_TABLE, nl.ZeroTerminated(tableName)))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: readTime}); err != nil {
		return r, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Sendto(fd, request.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return r, os.NewSyscallError("sendto", err)
	}
	b := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return r, os.NewSyscallError("recvfrom", err)
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return r, err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return r, nil
			case unix.NLMSG_ERROR:
				return r, os.NewSyscallError("netlink", syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data))))
			}
			if err := r.add(m.Data); err != nil {
				return r, err
			}
		}
	}
}

// add takes the counter of one message.
func (r *RefusedPackets) add(message []byte) error {
	if len(message) < nl.SizeofNfgenmsg {
		return errors.New("the message is too short")
	}
	object, err := attributes(message[nl.SizeofNfgenmsg:])
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
