//go:build !windows

package dialer

import "syscall"

// errnos are the error numbers that a dial may end with.
var errnos = []errno{
	{syscall.ECONNREFUSED, dialRefused, ""},
	{syscall.ECONNRESET, dialReset, ""},
	{syscall.ECONNABORTED, dialReset, ""},
	{syscall.EPIPE, dialReset, ""},
	{syscall.ETIMEDOUT, dialTimeout, ""},
	{syscall.ENETUNREACH, dialUnreachable, ""},
	{syscall.EHOSTUNREACH, dialUnreachable, ""},
	{syscall.ENETDOWN, dialUnreachable, ""},
	{syscall.EHOSTDOWN, dialUnreachable, ""},
	{syscall.EACCES, dialUnreachable, textForbids}, // a "prohibit" route, or a broadcast address
	{syscall.EPERM, dialUnreachable, textForbids},  // a local firewall
	{syscall.EINVAL, dialUnreachable, ""},          // a "blackhole" route
	{syscall.EAFNOSUPPORT, dialUnreachable, ""},
	{syscall.EADDRNOTAVAIL, dialLocal, textSource},
	{syscall.EADDRINUSE, dialLocal, textSource},
	{syscall.EMFILE, dialLocal, textFiles},
	{syscall.ENFILE, dialLocal, textFiles},
	{syscall.ENOBUFS, dialLocal, textMemory},
	{syscall.ENOMEM, dialLocal, textMemory},
	{syscall.ENODEV, dialLocal, textDevice},
}
