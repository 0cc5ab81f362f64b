//go:build !unix

package daemon

func alive(int) bool { return false } // there are no upgrades here

// raiseFileLimit has nothing to raise here.
func raiseFileLimit() uint64 { return 0 }
