// Package fleet shares budgets between processes on many hosts, by a Redis that they
// all use. It is the table's limit.Remote.
//
// # What is exact
//
// A slot counts in Redis from its grant until one window after its dial has ended, by
// the clock of Redis. A call carries the time after which it must grant nothing, so
// what Redis runs late grants nothing. A process that Redis has not heard of for a
// moment may use its share by itself: that much is kept free for it, until its lease
// ends.
//
// # Without Redis
//
// When a call fails or takes too long, the process uses its own share: of what was left
// when it last heard, its part, for one window, and then its part of the limit. It
// returns after a while of quick answers, and first passes on to Redis what it has granted. A
// Redis that does not know what was granted, because it is another one or has lost its
// data, is fed by all of them before it grants anything.
//
// What can be granted too much: what the others were granted in the second before the
// loss, which this process had not heard of; and what a process that alone is cut off
// uses of its share before the others keep it free, and after its lease has ended.
//
// # Verdicts, and the list of hosts
//
// What an exchange answers to one process about an exit is said to all (verdicts.go),
// and so is who there is (registry.go). This goes on beside the budgets, with a Redis
// too that is too slow for these. What other processes have written is not trusted.
package fleet
