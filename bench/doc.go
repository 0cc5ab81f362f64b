//go:build !linux

// Command bench measures forward proxies on loopback; it needs Linux.
package main

func main() {}
