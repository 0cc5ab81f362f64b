//go:build !unix

package config_test

import (
	"testing"
	"time"
)

// patience is what a busy machine with the race detector needs; what is not
// linear takes longer on an idle one.
const patience = time.Minute

var began = time.Now()

// spent is the time so far.
func spent(*testing.T) time.Duration { return time.Since(began) }
