//go:build !linux

package isolate

import (
	"context"
	"errors"
	"net"
	"os/exec"
)

// IsChild returns false: there is no Start here.
func IsChild() bool { return false }

// Child is not called.
func Child() int { return 1 }

// Namespace is never made here.
type Namespace struct {
	Listeners   map[string]net.Listener
	Transparent []net.Listener
}

// Start returns an error: namespaces are Linux's.
func Start(Options, *Names) (*Namespace, error) {
	return nil, errors.New("network namespaces are a feature of Linux; use plain exec here, or run the command in a container")
}

// Command is not called.
func (*Namespace) Command() *exec.Cmd { return nil }

// Serve is not called.
func (*Namespace) Serve(context.Context) {}

// Run is not called.
func (*Namespace) Run([]string, []string) error { return nil }

// Close is not called.
func (*Namespace) Close() {}

// Ports is not called.
func (*Namespace) Ports() []PortUse { return nil }

// Refused is not called.
func (*Namespace) Refused() (RefusedPackets, error) { return RefusedPackets{}, nil }

// Closed is not called.
func (*Namespace) Closed() ([]uint16, error) { return nil, nil }
