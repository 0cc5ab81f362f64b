// Package health asks whether an upstream is fit for an exchange: it connects
// to the upstream, through it to the exchange, or asks the exchange itself and reads
// the answer. Probe does so once; Run does it for every pair of member and exchange that routes
// use, gently, as long as the process lives.
//
// It chooses no upstream: what it finds it keeps in the members. It sends no keys
// and nothing of the clients', and what an exchange says of a region is
// reported, never worked around.
package health
