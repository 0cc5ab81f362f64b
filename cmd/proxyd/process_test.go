package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// asProxyd makes the test's own binary be proxyd, so that signals and exit
// codes are those of a process.
const asProxyd = "TEST_AS_PROXYD"

// asClient makes it be an HTTP client of the addresses named, by the proxy of its environment.
const asClient = "TEST_AS_CLIENT"

// client asks each address, and returns how many could not be asked.
func client(targets string) (failed int) {
	for target := range strings.FieldsSeq(targets) {
		if resp, err := http.Get(target); err != nil {
			failed++
		} else {
			_ = resp.Body.Close()
		}
	}
	return failed
}

func TestMain(m *testing.M) {
	if targets := os.Getenv(asClient); targets != "" && len(os.Args) == 1 {
		os.Exit(client(targets))
	}
	if os.Getenv(asProxyd) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a running proxyd.
type process struct {
	*exec.Cmd
	log    io.Closer
	stderr *bufio.Reader // what log has
	stuck  *time.Timer   // kills it
}

// start runs proxyd with arguments and variables; it is killed when the test
// ends.
func start(t *testing.T, environ []string, args ...string) *process {
	t.Helper()
	return startIn(t, "", environ, args...)
}

// startIn is start in a directory.
func startIn(t *testing.T, dir string, environ []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...) //nolint:gosec // this test's own binary
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), asProxyd+"=1"), environ...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(8*time.Second, func() { _ = cmd.Process.Kill() }) // ends what the test waits for
	t.Cleanup(func() {
		stuck.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &process{cmd, stderr, bufio.NewReader(stderr), stuck}
}

// until reads the log up to a line that has text in it, and gives all of it.
func (p *process) until(t *testing.T, text string) string {
	t.Helper()
	var log strings.Builder
	for {
		line, err := p.stderr.ReadString('\n')
		log.WriteString(line)
		if strings.Contains(line, text) {
			return log.String()
		}
		if err != nil {
			t.Fatalf("no line with %q: %v\n%s", text, err, log.String())
		}
	}
}

// exit waits for the end and gives the rest of the log and the exit code.
func (p *process) exit(t *testing.T) (log string, code int) {
	t.Helper()
	rest, err := io.ReadAll(p.stderr)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	return string(rest), p.ProcessState.ExitCode()
}

// freeAddress is one that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
