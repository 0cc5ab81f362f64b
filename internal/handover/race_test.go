//go:build race

package handover

// thousand is fewer where each takes ten times as long.
const thousand = 200
