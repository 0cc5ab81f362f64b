package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"

	"proxyd/internal/printable"
)

const (
	tooSlow    = "it takes longer than 20 ms to answer"
	adviceNear = "use a Redis that answers within 20 ms"
	adviceUp   = "see that Redis runs and can be reached from here: fleet.redis"
)

// advices is what to do about errors that contain a text; the first that fits.
var advices = []struct{ text, advice string }{
	{"NOAUTH", "correct the username and the password in fleet.redis"},
	{"WRONGPASS", "correct the username and the password in fleet.redis"},
	{"called without any password configured", "correct the username and the password in fleet.redis"},
	{"NOPERM", "give the user of fleet.redis the rights that docs/fleet.md lists"},
	{"executing the script can't run", "give the user of fleet.redis the rights that docs/fleet.md lists"},
	{"OOM command", "raise maxmemory of Redis, or remove what else fills it"},
	{"READONLY", "name the master in fleet.redis, or the sentinels: docs/fleet.md has the forms"},
	{"MASTERDOWN", "name the master in fleet.redis, or the sentinels: docs/fleet.md has the forms"},
	{"NOREPLICAS", "see that the replicas of Redis run: min-replicas-to-write asks for them"},
	{"MISCONF", "see why Redis cannot write to its disk: its log says it"},
	{"LOADING", "wait: Redis reads its data"},
	{"MOVED", "write fleet.redis in the form for a Cluster, with addr: docs/fleet.md has it"},
	{"CLUSTERDOWN", "see which nodes of the Cluster are down"},
	{"max number of clients", "raise maxclients of Redis"},
	{"x509:", "correct the certificate of Redis, or have this host trust who signed it"},
	{"tls:", "write rediss:// if Redis speaks TLS there, else redis://"},
}

// scriptPart is what Redis adds for the authors of scripts.
var scriptPart = regexp.MustCompile(`\.?,? ?script: [0-9a-f]+, on @user_script.*$`)

// cause returns an error in words, and what to do about it. The errors of the library
// name addresses and commands, never credentials.
func cause(err error) (why, advice string) {
	text := err.Error()
	if timedOut(err) {
		return "it has not answered within 50 ms", adviceUp
	}
	var op *net.OpError
	var call *os.SyscallError
	if errors.As(err, &op) && op.Addr != nil && errors.As(op.Err, &call) {
		return printable.Clean(fmt.Sprintf("%s: %s", op.Addr, call.Err), 200), adviceUp
	}
	why = printable.Clean(strings.TrimPrefix(scriptPart.ReplaceAllString(text, ""), "ERR "), 200)
	for _, a := range advices {
		if strings.Contains(text, a.text) {
			return why, a.advice
		}
	}
	return why, adviceUp
}

// timedOut reports whether no answer came in time.
func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(err.Error(), "i/o timeout")
}
