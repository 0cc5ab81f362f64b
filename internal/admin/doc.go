// Package admin answers an operator over HTTP, on an address of its own: health,
// status, metrics, tunnels, what route a host would take, reload and upgrade. It
// also holds the client that the commands use.
//
// It decides nothing: what it shows and starts is given to it.
package admin
