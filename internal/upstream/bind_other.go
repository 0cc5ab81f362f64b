//go:build !linux

package upstream

import (
	"fmt"
	"runtime"
)

// noInterface is an interface that cannot be dialled through.
type noInterface struct{ name string }

func (n *noInterface) Error() string {
	return fmt.Sprintf("interface %s cannot be chosen on %s: give direct:// a source address instead", n.name, runtime.GOOS)
}

// bindSource prepares a socket for its source address and interface.
func bindSource(_ uintptr, _ bool, iface string) error {
	if iface == "" {
		return nil
	}
	return &noInterface{iface}
}
