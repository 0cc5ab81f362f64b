// Package metrics counts records and shows them, and the state of the upstreams,
// to Prometheus. Labels come from the configuration and the catalogue only: a
// client chooses which of them grows, never what they are.
//
// It reads what others know when it is scraped; it keeps no clock, starts no
// goroutine and decides nothing.
package metrics
