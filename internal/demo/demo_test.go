package demo

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxyd/internal/config"
	"proxyd/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running starts a demo; end ends it, and returns the error of Run.
func running(t *testing.T) (out *testkit.Output, end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out = &testkit.Output{}
	done := make(chan error, 1)
	go func() { // ends with ctx
		done <- Run(ctx, Options{Out: out, Program: "proxyd", Quote: func(w []string) string { return strings.Join(w, " ") }, Curl: []string{"curl"}})
	}()
	end = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = end() })
	testkit.Eventually(t, 10*time.Second, "line 1 of the status", func() bool { return strings.Contains(out.String(), "  ok\n") })
	return out, end
}

// The configuration has no warning, every address is one of this machine, and
// nothing is left at the end.
func TestDemoStaysOnThisMachineAndLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("TMP", temp)
	out, end := running(t)
	for _, address := range regexp.MustCompile(`[0-9.]+:[0-9]+\b`).FindAllString(out.String(), -1) {
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err == nil && ip != nil && !ip.IsLoopback() {
			t.Errorf("%s is not of this machine", address)
		}
	}
	file := regexp.MustCompile(`configuration +(\S+)`).FindStringSubmatch(out.String())[1]
	c, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("the configuration has warnings: %v", c.Warnings)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDemoWithoutATemporaryDirectorySaysSo(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	t.Setenv("TMP", os.Getenv("TMPDIR"))
	t.Setenv("TEMP", os.Getenv("TMPDIR"))
	err := Run(t.Context(), Options{})
	if err == nil || !strings.Contains(err.Error(), "set TMPDIR") {
		t.Errorf("got %v", err)
	}
}

// A page in a browser can send a request to any address of this machine.
func TestControlRefusesBrowsersAndOtherHosts(t *testing.T) {
	out, _ := running(t)
	control := regexp.MustCompile(`http://(\S+)/exchanges/bitget/freeze`).FindStringSubmatch(out.String())[1]
	for _, c := range []struct {
		name, method, path, host, origin string
		want                             int
	}{
		{"curl", "POST", "/exchanges/bitget/thaw", control, "", 200},
		{"the lines again", "GET", "/", control, "", 200},
		{"a page", "POST", "/exchanges/bitget/freeze", control, "https://evil.example", 403},
		{"a name that leads here", "POST", "/exchanges/bitget/freeze", "evil.example", "", 403},
		{"not a change", "GET", "/exchanges/bitget/freeze", control, "", 405},
		{"an exchange that is not there", "POST", "/exchanges/okx/freeze", control, "", 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+control+c.path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			if c.origin != "" {
				req.Header.Set("Origin", c.origin)
			}
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("got %d, want %d", resp.StatusCode, c.want)
			}
		})
	}
}
