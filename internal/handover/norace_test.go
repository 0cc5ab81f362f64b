//go:build !race

package handover

const thousand = 1000
