package dialer

import (
	"errors"
	"fmt"
	"syscall"
)

// ipBindAddressNoPort is IP_BIND_ADDRESS_NO_PORT of linux/in.h. With it a bound
// source address does not take a local port of its own before connect, so that
// one address serves more than the 28,000 connections of the port range.
const ipBindAddressNoPort = 24

// interfaceError is the error of an interface that cannot be used for a dial.
type interfaceError struct {
	name string
	err  error
}

func (n *interfaceError) Error() string {
	if errors.Is(n.err, syscall.ENODEV) {
		return fmt.Sprintf("interface %s does not exist here", n.name)
	}
	return fmt.Sprintf("interface %s cannot be used: %v", n.name, n.err)
}

func (n *interfaceError) Unwrap() error { return n.err }

// bindSource prepares a socket for its source address and interface.
func bindSource(fd uintptr, source bool, iface string) error {
	if source { // a kernel that lacks it only has fewer ports
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
	}
	if iface == "" {
		return nil
	}
	if err := syscall.BindToDevice(int(fd), iface); err != nil {
		return &interfaceError{iface, err}
	}
	return nil
}
