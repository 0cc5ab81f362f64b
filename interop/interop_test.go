//go:build interop

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

var (
	dir    = os.Getenv("INTEROP_DIR") // of run.sh; its end removes it
	counts struct {
		cases  int
		failed []string
	}
)

func TestMain(m *testing.M) {
	if dir == "" {
		fmt.Fprintln(os.Stderr, "interop: started by interop/run.sh alone")
		os.Exit(1)
	}
	code := m.Run()
	if os.Getenv("INTEROP_WORKER") != "" {
		os.Exit(code)
	}
	for _, name := range counts.failed { // again, as the last lines
		fmt.Println("FAIL", name)
	}
	fmt.Printf("interop: %d cases, %d failed\n", counts.cases, len(counts.failed))
	switch {
	case counts.cases == 0:
		code = 1
	case code != 0 && counts.failed == nil:
		fmt.Println("interop: what failed is none of the cases, see above")
	}
	os.Exit(code)
}

// TestInterop starts everything once; the cases follow one another, because
// each looks at what the upstreams' logs say of it.
func TestInterop(t *testing.T) {
	w := newWorld(t)
	t.Run("carried", w.carried)
	t.Run("plain_http", w.plainHTTP)
	t.Run("dead_targets", w.deadTargets)
	t.Run("upstream_refuses", w.upstreamRefuses)
	t.Run("pools_and_chains", w.poolsAndChains)
	t.Run("listeners", w.listeners)
	t.Run("secrets", w.secrets)
}

// run is one case, with one line that says how it went.
func run(t *testing.T, name string, do func(t *testing.T)) {
	t.Helper()
	ran := false // not with a -test.run that leaves it out
	ok := t.Run(name, func(t *testing.T) {
		ran = true
		do(t)
	})
	switch {
	case !ran:
		return
	case ok:
		fmt.Println("ok  ", name)
	default:
		counts.failed = append(counts.failed, name)
		fmt.Println("FAIL", name)
	}
	counts.cases++
}

// world is all that the cases share.
type world struct {
	exchange  *testkit.Exchange
	upstreams []*upstream
	proxyd    *program
	cert, key string // for TLS listeners and the TLS proxy; the exchange's CA signed it
}

func newWorld(t *testing.T) *world {
	w := &world{exchange: testkit.NewExchange(t)}
	w.cert, w.key = w.exchange.CA.Files(t, "localhost", "127.0.0.1", "tls-proxy.test")
	w.upstreams = upstreams()
	serveNames(t, w.upstreams)
	serveTargets(t, w.exchange, w.upstreams)
	w.startUpstreams(t)
	w.proxyd = startProxyd(t, w)
	return w
}

// program is a process whose output is kept.
type program struct {
	testkit.Output
	name string
	pid  int
	done chan struct{} // closed when it has ended
}

// start runs a program until the test ends.
func start(t *testing.T, environ []string, name string, args ...string) *program {
	t.Helper()
	p := &program{name: filepath.Base(name), done: make(chan struct{})}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), environ...)
	cmd.Stdout, cmd.Stderr = p, p
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children end with it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = cmd.Process.Pid
	go func() { // ends with the process
		_ = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		select {
		case <-p.done:
		case <-time.After(time.Second): // a child that left the group holds the output; the end of the namespace takes it
		}
		if t.Failed() {
			lines := strings.Split(strings.TrimSpace(p.String()), "\n")
			t.Logf("the last that %s said:\n%s", p.name, strings.Join(lines[max(0, len(lines)-10):], "\n"))
		}
	})
	return p
}

// file writes a file that programs with a user of their own may read.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
