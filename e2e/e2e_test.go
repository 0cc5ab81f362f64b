// Package e2e tests what a user is promised, through real sockets: a daemon with
// a real configuration file between clients that control every byte and fakes
// of upstream proxies and exchanges. It knows no inner parts of proxyd: neither
// how a thing is done nor by which package.
package e2e

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxyd/internal/daemon"
	"proxyd/internal/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv(upstreamVariable) != "" {
		serveUpstream()
		return
	}
	flag.Parse()
	// Those that wait for a time budget are parallel, and many at once. Those
	// that work hard are not: they come first, one by one, and disturb no budget.
	_ = flag.Set("test.parallel", "32")
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeBinary()
		os.Exit(code)
	}))
}

// output is a log that can be read while it is written.
type output struct{ testkit.Output }

// newLog returns a log whose last lines are printed when the test fails.
func newLog(t testing.TB) *output {
	o := &output{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the daemon's log:\n%s", o.tail(100))
		}
	})
	return o
}

// tail returns the last n lines.
func (o *output) tail(n int) string {
	lines := strings.SplitAfter(o.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-1-n):], "")
}

// loopback lets direct connections reach the fakes.
const loopback = "allow_private: [127.0.0.0/8, \"::1\"]\n"

// proxyd is a daemon in this process.
type proxyd struct {
	Addr   string   // of the first listener
	Addrs  []string // of all
	Log    *output
	File   string
	reload chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// start runs a daemon with this configuration on a free port, unless the text
// has a listen key of its own. It stops when the test ends.
func start(t testing.TB, yaml string, environ ...string) *proxyd {
	t.Helper()
	p := &proxyd{Log: newLog(t), File: writeConfig(t, yaml), reload: make(chan struct{}), done: make(chan struct{})}
	d, err := daemon.New(daemon.Options{ConfigPath: p.File, Environ: environ, Stderr: p.Log, Version: "test"})
	if err != nil {
		t.Fatalf("%v\n%s", err, yaml)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() { // ends with cancel; stop waits for it
		defer close(p.done)
		if err := d.Run(ctx, daemon.Signals{Reload: p.reload, Force: ctx.Done()}); err != nil {
			t.Errorf("the daemon ended: %v", err)
		}
	}()
	t.Cleanup(p.stop)
	testkit.Eventually(t, testkit.Patience, "the daemon is ready", func() bool { return strings.Contains(p.Log.String(), `"msg":"ready"`) })
	for _, m := range listening.FindAllStringSubmatch(p.Log.String(), -1) {
		p.Addrs = append(p.Addrs, m[1])
	}
	p.Addr = p.Addrs[0]
	return p
}

// apply writes another configuration and has it loaded.
func (p *proxyd) apply(t testing.TB, yaml string) {
	t.Helper()
	if err := os.WriteFile(p.File, []byte(withListen(yaml)), 0o600); err != nil {
		t.Fatal(err)
	}
	before := strings.Count(p.Log.String(), `"type":"reload"`)
	p.reload <- struct{}{}
	testkit.Eventually(t, testkit.Patience, "the reload", func() bool {
		return strings.Count(p.Log.String(), `"type":"reload"`) > before
	})
}

// stop ends the daemon at once.
func (p *proxyd) stop() { p.cancel(); <-p.done }

// line gives the first line of the log that holds all of what, "" if there is none.
func (p *proxyd) line(what ...string) string {
next:
	for l := range strings.SplitSeq(p.Log.String(), "\n") {
		for _, w := range what {
			if !strings.Contains(l, w) {
				continue next
			}
		}
		return l
	}
	return ""
}

// waitLine is line for one that may still be on its way: the log is written
// behind the answers.
func (p *proxyd) waitLine(what ...string) string {
	for end := time.Now().Add(testkit.Patience); ; time.Sleep(5 * time.Millisecond) {
		if l := p.line(what...); l != "" || time.Now().After(end) {
			return l
		}
	}
}

// withListen has the daemon listen on a free port, unless the text says where.
func withListen(yaml string) string {
	for _, unless := range []string{"listen: 127.0.0.1:0", "admin: \"\"", "watch: false"} {
		key, _, _ := strings.Cut(unless, " ")
		if !strings.Contains("\n"+yaml, "\n"+key) {
			yaml = unless + "\n" + yaml
		}
	}
	return yaml
}

func writeConfig(t testing.TB, yaml string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(file, []byte(withListen(yaml)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
