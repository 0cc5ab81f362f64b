// Package admin answers an operator over HTTP, on an address of its own: health,
// status, metrics, tunnels, what route a host would take, reload and upgrade. It
// also holds the client that the commands use.
//
// What it shows and starts is given to it. It decides only how bad news is put
// into words (Status.Problems): for the command, the page and /readyz alike.
package admin
