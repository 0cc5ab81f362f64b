//go:build !windows

package upstream

import "syscall"

var errnoKinds = []struct {
	errno syscall.Errno
	kind  dialKind
}{
	{syscall.ECONNREFUSED, dialRefused},
	{syscall.ECONNRESET, dialReset},
	{syscall.ECONNABORTED, dialReset},
	{syscall.EPIPE, dialReset},
	{syscall.ETIMEDOUT, dialTimeout},
	{syscall.ENETUNREACH, dialUnreachable},
	{syscall.EHOSTUNREACH, dialUnreachable},
	{syscall.ENETDOWN, dialUnreachable},
	{syscall.EHOSTDOWN, dialUnreachable},
	{syscall.EACCES, dialUnreachable}, // a "prohibit" route, or a broadcast address
	{syscall.EPERM, dialUnreachable},  // a local firewall
	{syscall.EINVAL, dialUnreachable}, // a "blackhole" route
	{syscall.EAFNOSUPPORT, dialUnreachable},
	{syscall.EADDRNOTAVAIL, dialLocal},
	{syscall.EADDRINUSE, dialLocal},
	{syscall.EMFILE, dialLocal},
	{syscall.ENFILE, dialLocal},
	{syscall.ENOBUFS, dialLocal},
	{syscall.ENOMEM, dialLocal},
	{syscall.ENODEV, dialLocal},
}
