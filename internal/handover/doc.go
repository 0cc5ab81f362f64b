// Package handover passes what lives from one process of proxyd to the next: the
// listening sockets, and on request the tunnels with their sockets.
//
// It knows descriptors and messages; what a message means is the caller's. It
// does not speak to systemd (but takes the sockets that systemd opened), and it
// decides neither when to upgrade nor which connections move.
//
// Child is the old process's view of the new one, Parent the new one's view of
// the old. Listening sockets are given by spawn and taken up by Inherited.
//
// # How an upgrade goes
//
// The old process, the parent, starts the new one, its child, with its listening
// sockets and one end of a socket pair. Messages, and who sends them:
//
//	child   ready, with the formats that it understands; or failed, with its reasons
//	parent  go, with what the child must know before its first connection
//	child   serving: it accepts connections
//	parent  (accepts nothing more) batch, with descriptors
//	child   held: it has them all, and has touched none; or refused
//	parent  commit
//	parent  … more batches …, done
//
// Up to serving the parent accepts connections, and a child that ends, hangs or
// says no is killed and reaped: the parent goes on as if nothing had happened.
// Both processes hold the listening sockets all the while, so no connection is
// refused, and none that waits to be accepted is reset.
//
// # Who owns what moves
//
// Each thing that moves has one owner at any moment. Until the parent has
// written the whole of commit it is the parent's; from then on it is the child's.
// That one write is the point of no return, and both sides can tell on which
// side of it they are: the child resumes only what it has read a whole commit
// for, and that cannot be unless the parent has written it. So:
//
//   - the child dies, closes, refuses or is silent before the commit: the parent
//     takes the batch back. It closes the socket first (unless the child has
//     refused), so that a child that was only slow finds an end instead of a
//     commit, and closes its copies.
//   - the parent dies before the commit: the batch dies with it, as in any crash.
//     The child does not take it: it cannot tell a parent that has died from one
//     that has taken its batch back.
//   - the child dies after the commit: the batch dies with it, as in any crash.
//     The parent does not take it back: the child may have moved bytes.
//   - the parent dies after the commit: the child has the batch. The commit is
//     read even when the parent that wrote it is gone.
//
// Closing a copy of a socket sends nothing to its peer while the other process
// has one.
//
// # Versions
//
// The frame of a message, and ready, failed, go and serving, stay as they are
// for ever. The rest has a number, and what is moved has formats with names; a
// parent and a child whose numbers differ, or without a format in common, hand over
// listeners alone.
//
// A whole small daemon, with the order of all steps, is in this package's tests
// (generation_linux_test.go).
package handover
