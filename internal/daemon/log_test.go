package daemon

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/config"
	"proxyd/internal/testkit"
)

func TestBlockedLogDropsLinesAndBlocksNoTunnel(t *testing.T) {
	r, w, err := os.Pipe() // not read until the end
	if err != nil {
		t.Fatal(err)
	}
	lines := newLineWriter(w)
	go lines.run() // ends with Close
	log := newLogger(lines, zap.NewAtomicLevel(), false)
	start := time.Now()
	for range 3 * logLines {
		log.Info(strings.Repeat("x", 200))
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("writing took %v", took)
	}
	if lines.Dropped() == 0 {
		t.Error("no line was counted as dropped")
	}
	_ = r.Close() // the writer's goroutine sees a broken pipe and ends
	lines.Close()
	_ = w.Close()
}

// A log that nothing reads is news before it loses lines, and until it is read again.
func TestBlockedLogIsFoundBeforeItLosesLines(t *testing.T) {
	t.Parallel()
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := newLineWriter(out)
	go w.run() // ends with Close
	log := newLogger(w, zap.NewAtomicLevel(), false)
	found := func(now time.Time) string { return strings.Join(textsOf(w.findings(now)), "\n") }
	log.Info(strings.Repeat("x", 100_000)) // more than a pipe takes
	testkit.Eventually(t, testkit.Patience, "the write to block", func() bool { return found(time.Now().Add(time.Minute)) != "" })
	if got := found(time.Now()); got != "" {
		t.Errorf("blocked for a moment: %q", got)
	}
	for range logLines / 2 {
		log.Info("line")
	}
	if got := found(time.Now()); !strings.HasPrefix(got, "the log is blocked: nothing reads it, 2049 of 4096 lines wait") {
		t.Errorf("with half the room used: %q", got)
	}
	for range logLines {
		log.Info("line")
	}
	if got := found(time.Now()); !strings.HasPrefix(got, "the log loses lines: 2049 so far, nothing reads it") {
		t.Errorf("with the room used up: %q", got)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }() // ends when out is closed
	testkit.Eventually(t, testkit.Patience, "the log to be in order", func() bool { return found(time.Now()) == "" })
	w.Close()
}

func TestLogCompleteAfterClose(t *testing.T) {
	var out bytes.Buffer
	lines := newLineWriter(&out)
	go lines.run() // ends with Close
	log := newLogger(lines, zap.NewAtomicLevel(), false)
	for range 1000 {
		log.Info("line")
	}
	lines.Close()
	if n := strings.Count(out.String(), `"msg":"line"`); n != 1000 {
		t.Errorf("got %d lines, want 1000", n)
	}
	log.Info("after the end") // must not panic
}

func (w *lineWriter) waits() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiting
}

// filling takes so many bytes, and then none, as a disk that is full.
type filling struct {
	mu   sync.Mutex
	room int
	out  bytes.Buffer
}

func (f *filling) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _ := f.out.Write(p[:min(len(p), f.room)])
	if f.room -= n; n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func TestLinesLostOnFullDiskAreCounted(t *testing.T) {
	const lines, later = 400, 5
	disk := &filling{room: 20000}
	w := newLineWriter(disk)
	go w.run() // ends with Close
	log := newLogger(w, zap.NewAtomicLevel(), false)
	for range lines {
		log.Info("line")
	}
	testkit.Eventually(t, testkit.Patience, "a failed write", func() bool { return w.Errors() > 0 && w.waits() == 0 })
	if list := w.findings(time.Now()); len(list) != 1 || !strings.HasPrefix(list[0].text, "the log loses lines: ") || !strings.Contains(list[0].text, "no space left on device") {
		t.Errorf("status says %v", list)
	}
	if n, due := w.tryAgain(time.Now().Add(5 * time.Second)); !due || n == 0 {
		t.Errorf("%d lines are missing, and another try is due: %v", n, due)
	}
	disk.mu.Lock()
	disk.room = 1 << 20
	disk.mu.Unlock()
	for range later {
		log.Info("line")
	}
	w.Close()
	if list := w.findings(time.Now()); len(list) > 0 {
		t.Errorf("with room again status says %v", list)
	}
	whole := 0
	for line := range strings.Lines(disk.out.String()) {
		if json.Valid([]byte(line)) && strings.HasSuffix(line, "\n") {
			whole++
		}
	}
	if lost := int(w.Dropped()); lost == 0 || whole+lost != lines+later {
		t.Errorf("%d lines written and %d lost are not %d", whole, lost, lines+later)
	}
}

// With every tunnel open, every slot for those that wait taken, and the admin
// address flooded, what proxyd needs itself is left.
func TestDescriptorSharesStayWithinLimit(t *testing.T) {
	const standard, listeners, runtimes, events, spare = 3, 4, 3, 2, 4
	for _, files := range []uint64{64, 100, 128, 256, 384, 512} {
		open := maxTunnels(files)
		all := 2*open + waitingRoom(files, open) + adminConns(files) + standard + listeners + runtimes + events + spare
		if all > int(files) {
			t.Errorf("of %d, %d are given away", files, all)
		}
	}
	if waitingRoom(0, 5) < 1000 || maxTunnels(0) != 0 || adminConns(0) != 0 {
		t.Error("an unknown limit limits")
	}
}

func TestMaxTunnelsLeavesRoomForOwnFiles(t *testing.T) {
	for _, c := range []struct {
		files uint64
		want  int
	}{{0, 0}, {64, 16}, {66, 16}, {128, 32}, {20000, 9968}} {
		if got := maxTunnels(c.files); got != c.want {
			t.Errorf("%d files: got %d, want %d", c.files, got, c.want)
		}
	}
}

// A proxy in the environment is not used without a configuration, which is said once;
// one that is proxyd itself is nothing to say.
func TestUnusedProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	plain, err := config.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		environ []string
		path    string
		want    string
	}{
		"none":            {nil, "", ""},
		"one":             {[]string{"HTTPS_PROXY=http://u:geheim@px.example:3128"}, "", "HTTPS_PROXY"},
		"of websockets":   {[]string{"ws_proxy=http://px.example:3128"}, "", "ws_proxy"},
		"in lower case":   {[]string{"PATH=/bin", "http_proxy=http://px.example:3128"}, "", "http_proxy"},
		"empty":           {[]string{"HTTPS_PROXY="}, "", ""},
		"proxyd itself":   {[]string{"HTTPS_PROXY=http://127.0.0.1:8877", "https_proxy=http://127.0.0.1:8877/"}, "", ""},
		"a configuration": {[]string{"HTTPS_PROXY=http://px.example:3128"}, "proxyd.yaml", ""},
		"another":         {[]string{"NO_PROXY=a.example", "FTP_PROXY=http://px.example:3128"}, "", ""},
	} {
		if got := unusedProxy(Options{ConfigPath: c.path, Environ: c.environ}, plain); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
