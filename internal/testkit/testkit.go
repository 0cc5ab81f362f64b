// Package testkit gives tests real peers on loopback: fake exchanges, fake
// upstream proxies that behave well or badly on request, plain TCP servers, and
// clients with control over every byte. Whatever it starts is closed, and waited
// for, when the test ends.
//
// It is for tests only. It asserts nothing about proxyd, of which it knows the
// configuration alone, and resolves no names: the fake proxies look a name up in
// their own table of hosts.
package testkit

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
)

// Patience is how long the helpers wait for what must happen. It is far more
// than anything takes, so that a busy machine fails no test: more than the 30 s too
// for which a member is degraded after a dial that such a machine has delayed.
const Patience = time.Minute

// Eventually polls until done reports true, and fails the test when that takes
// longer than d.
func Eventually(t testing.TB, d time.Duration, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(d); ; time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, d)
		}
	}
}

// Lacks ends a test that needs what this machine does not have: it is skipped, or fails
// where the environment has TESTS=required, as .ci/run sets it.
func Lacks(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("TESTS") == "required" {
		t.Fatalf("not on this machine, and TESTS=required: %s", what)
	}
	t.Skipf("not on this machine: %s", what)
}

// LacksClient is Lacks for what programs with a client library need. The test fails
// where interop/clients.sh has installed those of the language.
func LacksClient(t testing.TB, language, what string) {
	t.Helper()
	if slices.Contains(strings.Fields(os.Getenv("CLIENTS_LANGUAGES")), language) {
		t.Fatalf("not installed, though CLIENTS_LANGUAGES has %s: %s", language, what)
	}
	t.Skipf("not on this machine: %s; make clients runs this, or make clients-all", what)
}

// Config returns the configuration that text, the content of a file, makes.
func Config(t testing.TB, text string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Resources is a count of what a process can leak.
type Resources struct {
	FDs        int // open file descriptors; 0 where the system does not report it
	Goroutines int
}

// Count counts now.
func Count() Resources {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return Resources{Goroutines: runtime.NumGoroutine()}
	}
	return Resources{len(entries) - 1, runtime.NumGoroutine()} // less the descriptor that reads the directory
}

// WaitBack waits until no more is open than r counted, plus slack descriptors;
// after Patience the test fails, with the stacks of what still runs.
func (r Resources) WaitBack(t testing.TB, slack int) {
	t.Helper()
	var now Resources
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		now = Count()
		if now.FDs <= r.FDs+slack && now.Goroutines <= r.Goroutines {
			return
		}
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	t.Errorf("left open: %d descriptors and %d goroutines, were %d and %d\n%s",
		now.FDs, now.Goroutines, r.FDs, r.Goroutines, stacks)
}
