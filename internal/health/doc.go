// Package health asks whether an upstream is fit for an exchange: it connects,
// asks for a way, or speaks to the exchange itself, and reads the answer. Probe
// does so once; Run does it for every pair of member and exchange that routes
// use, gently, as long as the process lives.
//
// It chooses nothing and keeps no verdict: what it finds it hands over. It sends
// no keys and nothing of the clients', and what an exchange says of a region is
// reported, never worked around.
package health
