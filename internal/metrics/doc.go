// Package metrics counts records and shows them, and the state of the upstreams,
// to Prometheus. Labels come from the configuration and the catalogue only.
package metrics
