//go:build unix && !linux

package handover

// keepAliveOptions have other names on each other system.
var keepAliveOptions map[int]int
