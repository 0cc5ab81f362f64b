//go:build !linux

package dialer

import (
	"fmt"
	"runtime"
)

// interfaceError is the error of an interface that cannot be used for a dial.
type interfaceError struct{ name string }

func (n *interfaceError) Error() string {
	return fmt.Sprintf("interface %s cannot be chosen on %s: give direct:// a source address instead", n.name, runtime.GOOS)
}

// bindSource prepares a socket for its source address and interface.
func bindSource(_ uintptr, _ bool, iface string) error {
	if iface == "" {
		return nil
	}
	return &interfaceError{iface}
}
