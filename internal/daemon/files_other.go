//go:build !unix

package daemon

// raiseFileLimit has nothing to raise here.
func raiseFileLimit() uint64 { return 0 }
