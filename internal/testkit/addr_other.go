//go:build !linux

package testkit

import "testing"

// BlackHole returns an address where a connect hangs. Other systems than linux
// refuse, or accept, when a backlog is full.
func BlackHole(t testing.TB) string {
	t.Helper()
	t.Skip("only linux drops what knocks at a full backlog")
	return ""
}
