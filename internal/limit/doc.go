// Package limit holds budgets of connections: at most so many new ones in any
// window of a length, and at most so many open at once.
//
// It knows nothing of exchanges and upstreams; a budget is a name to it. It opens
// nothing: who dials asks first (Table.Acquire) and tells what came of it (Grant).
//
// # What is exact
//
// An exchange counts connections when they arrive, some time between the grant
// and the end of the dial. A grant therefore takes a place from the moment it is
// given until one window after the dial has ended (Grant.Settle). So at most
// Connects arrive in any window, measured where they arrive, however long each
// dial took. A window is taken as closed: two arrivals exactly Per apart count as
// within one.
//
// # Who is first
//
// Those who wait are served in the order of their arrival, each as soon as all
// of its budgets have room; one that waits for one budget does not hold up others
// that do not need it. Nothing polls: while a caller waits, one timer stands at
// the next moment at which a window frees a slot. With no caller waiting there
// is no timer and no goroutine.
package limit
