package isolate

// Options say what Start opens inside, beside the transparent listener and the
// resolver.
type Options struct {
	Listen []string // addresses, as net.Listen takes them: listeners of the configuration
	Ports  []uint16 // ports of the host's loopback that are to be reached at the same port inside
}

// PortUse is what went to one port of the host's loopback.
type PortUse struct {
	Port        uint16
	Connections int
	Refused     int // nothing listened there
}

// RefusedPackets are the packets that were refused because they are neither TCP nor
// name queries.
type RefusedPackets struct{ UDP, Other int }

// CommandError is a command that could not be executed.
type CommandError struct{ Err error }

// Error returns the system's error.
func (e *CommandError) Error() string { return e.Err.Error() }

// Unwrap returns it.
func (e *CommandError) Unwrap() error { return e.Err }
