// Package limit holds budgets of connections: at most so many new ones in any
// window of a length, and at most so many open at once.
//
// It knows nothing of exchanges and upstreams; a budget is a name to it.
package limit
