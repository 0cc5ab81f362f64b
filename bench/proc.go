//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// tree returns a process and its living descendants.
func tree(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pids[i]))
		for _, t := range tasks {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pids[i], t.Name()))
			for f := range strings.FieldsSeq(string(b)) {
				if p, err := strconv.Atoi(f); err == nil {
					pids = append(pids, p)
				}
			}
		}
	}
	return pids
}

// cpuSeconds returns the CPU time that a process and its descendants have used,
// from their CPU clocks (clock_getcpuclockid(3)), which count nanoseconds.
func cpuSeconds(pid int) (sec float64) {
	for _, p := range tree(pid) {
		var ts syscall.Timespec
		clock := uintptr(^p<<3 | 2) //nolint:gosec // the kernel's encoding of a process's clock
		if _, _, e := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&ts)), 0); e == 0 {
			sec += float64(ts.Sec) + float64(ts.Nsec)/1e9
		}
	}
	return sec
}

type usage struct{ rssKiB, files float64 }

// resources sums memory and descriptors over a process and its descendants.
func resources(pid int) (u usage) {
	for _, p := range tree(pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
		if err != nil {
			continue
		}
		if _, rest, ok := bytes.Cut(b, []byte("VmRSS:")); ok {
			var kib float64
			_, _ = fmt.Sscan(string(rest), &kib)
			u.rssKiB += kib
		}
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p))
		u.files += float64(len(fds))
	}
	return u
}
