//go:build !linux

package daemon

import "net"

// listenConfig sets keepalive on every accepted connection.
func listenConfig() *net.ListenConfig { return &net.ListenConfig{KeepAliveConfig: keepAlive} }

// reloadingNow returns the state that systemd is notified of when a reload begins.
func reloadingNow() string { return "RELOADING=1" }
