package daemon

import (
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// notify tells systemd, if it has started us (sd_notify(3)).
func notify(state string) { _, _ = systemd.SdNotify(false, state) } // without systemd there is nobody to tell

// watchdog ticks when systemd wants a sign of life (WatchdogSec), twice in its
// time; nil otherwise.
func (d *Daemon) watchdog() <-chan time.Time {
	every, err := systemd.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return nil
	}
	return time.Tick(every / 2)
}
