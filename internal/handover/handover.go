package handover

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// version numbers the messages from batch on.
const version = 1

// variable describes to a child what it has inherited. It does not begin as the
// configuration's variables do.
const variable = "_PROXYD_HANDOVER"

// inheritance is what the variable holds, in JSON. Descriptor 3 is the socket to
// the parent, the listeners follow from 4 on.
type inheritance struct {
	Parent    int      `json:"parent"` // its process id
	Listeners []string `json:"listeners"`
}

// Listener is a listening socket and the name under which the configuration
// knows it.
type Listener struct {
	Name string
	net.Listener
}

// Item is one thing that moves: what the caller says of it, and its connections.
type Item struct {
	Data  []byte
	Conns []*net.TCPConn
}

// The reasons why an upgrade is not begun or a move does not take place.
var (
	ErrRunning     = errors.New("an upgrade is already running; wait until it has ended")
	ErrReplaced    = errors.New("this process has been replaced already and only serves its tunnels to their end; ask the new process")
	ErrUnsupported = errors.New("this system cannot hand sockets to another process; stop proxyd and start the new one")
	ErrFormat      = errors.New("the new process does not know how this one writes its tunnels down; they stay here")
	ErrRefused     = errors.New("the new process did not take them")
)

// StartOptions say how the next process is started. Its arguments are those of
// this one.
type StartOptions struct {
	Path      string        // the program, as Program gave it when this process started
	Env       []string      // "NAME=value" each; nil: that of this process
	Listeners []Listener    // what it gets: TCP or unix sockets
	Step      time.Duration // how long it may take for one answer; 0: a second for a batch, ten to begin to serve
}

// Program returns the path of this program as its user gave it, made absolute: from
// the directory of now when it has a slash in it, else by a search in PATH. It
// is not what that path leads to, so a new file there, or behind a symlink in
// that path, is what is started next. Ask at start, before anything changes the
// directory.
func Program() (string, error) {
	path := os.Args[0]
	if !strings.ContainsRune(path, filepath.Separator) {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", err
		}
		path = found
	}
	return filepath.Abs(path)
}
