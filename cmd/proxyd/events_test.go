package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/event"
)

func emptyJournal() *event.Journal { return event.NewJournal(func(event.Event) {}) }

// with returns a change of options that gives them a journal.
func with(j *event.Journal) func(*admin.Options) { return func(o *admin.Options) { o.Journal = j } }

func anEvent(exchange string, severity event.Severity) event.Event {
	return event.Event{
		Time: time.Date(2026, 11, 30, 10, 17, 56, 0, time.Local), Severity: severity, Type: event.ExchangeLost, Exchange: exchange, Kind: "websocket",
		Text: "0 tunnels (40 until 10:17:56)", Hint: "proxyd probe " + exchange,
	}
}

func TestEventsAreLinesForPeopleAndForPrograms(t *testing.T) {
	j := emptyJournal()
	_, path := running(t, "127.0.0.1:0", with(j))
	j.Add(anEvent("okx", event.Error))
	j.Add(anEvent("binance", event.Warn))
	j.Add(event.Event{Severity: event.Info, Type: event.Reloaded, Text: "reloaded"})
	out, errOut, code := call("events", "-c", path)
	lines := strings.Split(out, "\n")
	if want := "2026-11-30 10:17:56  error  okx websocket lost: 0 tunnels (40 until 10:17:56) (proxyd probe okx)"; code != 0 || len(lines) != 4 || lines[0] != want || !strings.HasPrefix(errOut, "proxyd remembers what has happened since 20") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	var e event.Event
	out, errOut, code = call("events", "-c", path, "--format", "json", "--severity", "warn", "--exchange", "Binance", "--kind", "ws")
	if code != 0 || errOut != "" || strings.Count(out, "\n") != 1 || json.Unmarshal([]byte(out), &e) != nil || e.Exchange != "binance" {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	if out, errOut, code := call("events", "-c", path, "--since", "00000000-3"); code != 0 || !strings.Contains(out, "started again") || strings.Count(out, "\n") != 4 {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	for range 2500 { // more than one answer
		j.Add(anEvent("kraken", event.Error))
	}
	if out, _, code := call("events", "-c", path, "--since", "2020-01-02T03:04:05Z", "--exchange", "kraken"); code != 0 || strings.Count(out, "\n") != 2500 {
		t.Errorf("exit code %d, %d lines", code, strings.Count(out, "\n"))
	}
}

func TestEventsRefuseAWrongCall(t *testing.T) {
	_, path := running(t, "127.0.0.1:0", with(emptyJournal()))
	for _, args := range [][]string{
		{"--exchange", "binanec"}, {"--exchange", ""}, {"--severity", "bad"}, {"--since", "yesterday"}, {"--upstream", "tokio-9"}, {"--type", "lost"},
		{"--type", ""}, {"--format", "yaml"}, {"binance"}, {"--kind", "x"},
	} {
		if out, errOut, code := call(append([]string{"events", "-c", path}, args...)...); code != 2 || out != "" {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, errOut)
		}
	}
	if _, errOut, code := call("events", "--admin", "127.0.0.1:1"); code != 1 || !strings.Contains(errOut, "is proxyd running?") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

// following is a running proxyd events --follow.
type following struct {
	t     *testing.T
	lines *bufio.Scanner
}

func followEvents(t *testing.T, args ...string) *following {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], append([]string{"events", "--follow", "--format", "json"}, args...)...) //nolint:gosec // this test's own binary
	cmd.Env = append(os.Environ(), asProxyd+"=1")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	stuck := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() }) // ends what the test waits for
	t.Cleanup(func() {
		stuck.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = r.Close()
	})
	return &following{t, bufio.NewScanner(r)}
}

func (f *following) next() (e event.Event) {
	f.t.Helper()
	if !f.lines.Scan() || json.Unmarshal(f.lines.Bytes(), &e) != nil {
		f.t.Fatalf("line: %s", f.lines.Text())
	}
	return e
}

// --follow goes on when the daemon has started again, and says that events are
// missing.
func TestEventsFollowAcrossARestart(t *testing.T) {
	first, second := emptyJournal(), emptyJournal()
	var address string
	first.Add(anEvent("okx", event.Error))
	second.Add(anEvent("kraken", event.Error))
	var f *following
	run := func(j *event.Journal, use func()) { // a daemon that ends with use
		t.Run("", func(t *testing.T) {
			at := "127.0.0.1:0"
			if address != "" {
				at = address
			}
			address, _ = running(t, at, with(j))
			use()
		})
	}
	run(first, func() {
		f = followEvents(t, "--admin", address, "--since", "1000000h")
		if e := f.next(); e.Exchange != "okx" {
			t.Fatalf("%+v", e)
		}
		first.Add(anEvent("binance", event.Error))
		if e := f.next(); e.Exchange != "binance" {
			t.Fatalf("%+v", e)
		}
	})
	run(second, func() {
		if e := f.next(); e.Type != "gap" || !strings.Contains(e.Text, "started again") {
			t.Fatalf("%+v", e)
		}
		if e := f.next(); e.Exchange != "kraken" {
			t.Fatalf("%+v", e)
		}
		second.Add(anEvent("bybit", event.Error))
		if e := f.next(); e.Exchange != "bybit" {
			t.Fatalf("%+v", e)
		}
	})
	run(second, func() { // as after an upgrade: nothing is missing
		second.Add(anEvent("huobi", event.Error))
		if e := f.next(); e.Exchange != "huobi" {
			t.Fatalf("%+v", e)
		}
	})
}
