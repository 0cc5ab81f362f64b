package handover

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

const (
	frameBytes  = 16                     // the tunnel's number, the frame's, when it was sent
	framesEvery = 200 * time.Millisecond // in each direction of each tunnel
	upgrades    = 3
)

// TestThousandTunnelsMoveThreeTimes (fewer with the race detector): real processes, each the successor of the
// one before; frames in both directions all the while; some tunnels half-closed, some with
// a side that does not read. No frame is lost, doubled or swapped, and each
// tunnel has one record, in the last process, that counts every byte.
func TestThousandTunnelsMoveThreeTimes(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	for i := range thousand {
		r.open(i)
	}
	r.start()
	for n := range upgrades {
		time.Sleep(2 * framesEvery) // traffic, for what comes after it
		old := r.pids[n]
		if err := syscall.Kill(old, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		moved := r.word("moved", old)
		if moved.Count != thousand || moved.Stayed != 0 || moved.Text != "" {
			t.Fatalf("upgrade %d moved %+v", n, moved)
		}
		if took := r.word("over", old).At.Sub(moved.At); took > time.Second {
			t.Errorf("the old process is there for %v after its last tunnel has left", took)
		}
		r.next()
	}
	time.Sleep(2 * framesEvery)
	r.stop()
	r.check()
	r.report()
}

// run is one test: the far ends of all tunnels, and what the processes say.
type run struct {
	t              testing.TB
	server         net.Listener
	pids           []int // of the processes so far
	addr           string
	lines          chan line
	received       []line // all lines so far
	pipes          []*pipe
	end            chan struct{}
	works, writers sync.WaitGroup
}

// pipe is a tunnel's two far ends.
type pipe struct {
	i              int
	client, server *net.TCPConn
	up, down       stream
}

// stream is one direction of a tunnel.
type stream struct {
	sent, got atomic.Int64 // bytes
	next      uint32       // the number of the next frame to send
	closed    bool         // ended by its writer
	flood     bool         // is filled until nothing more fits, and not read before the end
	slowest   time.Duration
	err       error
}

func newRun(t testing.TB) *run {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, server: server, lines: make(chan line, 2*thousand), end: make(chan struct{})}
	first := exec.CommandContext(t.Context(), os.Args[0])
	first.Env = append(os.Environ(), part+"=generation", "HANDOVER_TEST_ADDR="+server.Addr().String(), "GORACE=atexit_sleep_ms=0")
	first.Stdout, first.Stderr = w, os.Stderr
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	reading := make(chan struct{})
	go func() { // ends when the last process has
		defer close(reading)
		for s := bufio.NewScanner(out); s.Scan(); {
			var l line
			if json.Unmarshal(s.Bytes(), &l) == nil {
				r.lines <- l
			}
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		_ = syscall.Kill(r.pids[len(r.pids)-1], syscall.SIGKILL) // the others have ended, or the test has failed
		<-reading
		_ = out.Close()
		_ = first.Wait()
	})
	r.addr = r.next().Addr
	return r
}

// wait gives the first line that is so.
func (r *run) wait(what string, is func(line) bool) line {
	r.t.Helper()
	if i := slices.IndexFunc(r.received, is); i >= 0 {
		return r.received[i]
	}
	patience := time.After(3 * testkit.Patience)
	for {
		select {
		case l := <-r.lines:
			r.received = append(r.received, l)
			if l.Event == "failed" || l.Event == "refused" {
				r.t.Fatalf("%+v", l)
			}
			if is(l) {
				return l
			}
		case <-patience:
			r.t.Fatalf("no word of this: %s", what)
		}
	}
}

// word is a line with an event of one process.
func (r *run) word(event string, pid int) line {
	r.t.Helper()
	return r.wait(event, func(l line) bool { return l.Event == event && l.PID == pid })
}

// next is the process that serves after those that have.
func (r *run) next() line {
	r.t.Helper()
	l := r.wait("another one serves", func(l line) bool { return l.Event == "serving" && !slices.Contains(r.pids, l.PID) })
	r.pids = append(r.pids, l.PID)
	return l
}
