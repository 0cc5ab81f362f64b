//go:build race

package feed

// simulatedDays is how many days of each shape are simulated: with the race
// detector each takes twenty times as long.
const simulatedDays = 1
