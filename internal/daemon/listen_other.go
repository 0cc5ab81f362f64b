//go:build !linux

package daemon

import "net"

// listenConfig sets keepalive on every accepted connection.
func listenConfig() *net.ListenConfig { return &net.ListenConfig{KeepAliveConfig: keepAlive} }
