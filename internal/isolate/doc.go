// Package isolate runs a command that can connect through proxyd and in no other
// direction, whatever it knows of proxies (proxyd exec --isolate), and writes the
// nftables rules that do the same for a service (proxyd nft).
//
// Start re-executes this program in user, network and mount namespaces of its own.
// That child brings up the loopback interface with a default route to it, redirects
// every TCP connection to one listener and port 53 to another, and sends these
// sockets out to the process that called Start, which serves them: in the namespace
// nothing runs but the command. Then the child gives up every capability and
// descriptor and executes the command in its own process, so that signals, terminal
// and exit code are the command's.
//
// The resolver answers with an address that stands for the name (Names); a
// connection to it is routed by its name. What is neither TCP nor port 53 is
// refused at once.
//
// The package does not decide where a connection goes: the sockets are served by
// the caller. It is no sandbox: files and unix sockets are those of the machine.
package isolate
