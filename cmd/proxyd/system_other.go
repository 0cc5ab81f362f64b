//go:build !unix

package main

import "os"

var upgradeSignals []os.Signal

// terminalSize returns 0: it is not known here.
func terminalSize(*os.File) (width, height int) { return 0, 0 }
