package daemon

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// reloadingNow is what systemd's Type=notify-reload wants to hear (sd_notify(3)).
func reloadingNow() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail: the clock exists
	return "RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10)
}
