package isolate

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// identity returns a mapping in which every id is what it is outside. A process that
// may not map them all maps its own: the others are shown as the kernel's overflow id.
func identity(file string, id int) []syscall.SysProcIDMap {
	one := []syscall.SysProcIDMap{{ContainerID: id, HostID: id, Size: 1}}
	text, err := os.ReadFile(file)
	if err != nil || !mayMapAll() {
		return one
	}
	var all []syscall.SysProcIDMap
	for line := range strings.Lines(string(text)) {
		var inside, outside, size int
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err != nil {
			return one
		}
		all = append(all, syscall.SysProcIDMap{ContainerID: inside, HostID: inside, Size: size})
	}
	return all
}

// mayMapAll reports whether this process may map ids other than its own.
func mayMapAll() bool {
	var have [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &have[0]); err != nil {
		return false
	}
	return have[0].Effective&toMapAll == toMapAll
}

// toMapAll are the capabilities that mapping all ids takes.
const toMapAll = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETFCAP
