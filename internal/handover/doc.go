// Package handover passes what lives from one process of proxyd to the next: the
// listening sockets, and on request the tunnels with their sockets.
//
// It knows descriptors and messages; what a message means is the caller's.
package handover
