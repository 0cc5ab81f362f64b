//go:build !race

package feed

const simulatedDays = 10
