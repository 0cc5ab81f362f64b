// Package interop runs the built proxyd between real programs: curl as the
// client; tinyproxy, squid, microsocks and dante as the upstreams; and, under exec
// --isolate, the resolvers of C libraries and languages, and the clients of PostgreSQL
// and Redis. run.sh installs
// them, makes a private network in which the names of exchanges mean this machine,
// and starts the tests there.
//
// clients.sh does the same for the client libraries. A file of clients is one
// library, with a program for each form in which it can use a proxy; TestMatrix runs
// them in several networks at once and holds the tables of docs/clients.md to what
// it sees.
//
// TestUnawarePrograms runs some of these programs under proxyd exec --isolate and behind the
// rules of proxyd nft, as several users, and counts every packet that goes out.
//
// The tests have the build tag interop, so that `go test ./...` needs none of
// these programs. They test no corner that a fake can show better: those are in
// e2e and in the packages' own tests.
package interop
