//go:build !linux

package daemon

func reloadingNow() string { return "RELOADING=1" }
