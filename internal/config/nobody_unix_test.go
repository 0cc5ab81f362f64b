//go:build unix && !linux

package config_test

import "testing"

func becomeNobody(t *testing.T) { t.Helper() }
