package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"proxyd/internal/admin"
)

// The admin key is found in a file with errors elsewhere: then it is most
// wanted.
func TestClientFindsDaemonOfFileWithErrors(t *testing.T) {
	bound, _ := running(t, "127.0.0.1:0", func(*admin.Options) {})
	path := file(t, "routs: []\nadmin: {address: \""+bound+"\"}\n")
	if out, errOut, code := call("status", "-c", path); code != 0 || !strings.HasPrefix(out, "ok\n") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
}

func TestClientWithoutDaemon(t *testing.T) {
	closed := freeAddress(t)
	gone, off, broken := file(t, "admin: "+closed+"\n"), file(t, "admin: \"\"\n"), file(t, "admin: [\n")
	for _, cmd := range [][]string{{"status"}, {"status", "--watch"}, {"reload"}, {"reload", "--dry-run"}, {"upgrade"}, {"drain", "tokyo-1"}, {"resume", "tokyo-1", "okx"}, {"route", "--live", "a.example"}} {
		for path, says := range map[string]string{
			gone:   "nothing answers at the admin address " + closed + ": is proxyd running?",
			off:    `the admin server is off (admin: "")`,
			broken: "or name the address: --admin ADDR",
		} {
			if out, errOut, code := call(append(cmd, "-c", path)...); code != 1 || !strings.Contains(errOut, says) || out != "" {
				t.Errorf("%v: exit code %d, want %q in\n%s%s", cmd, code, says, out, errOut)
			}
		}
	}
}

// A daemon that does not want to be asked is no fault of the call.
func TestClientRefusedByDaemon(t *testing.T) {
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "proxyd")
		http.Error(w, "set admin.token", http.StatusUnauthorized)
	}))
	defer daemon.Close()
	address := strings.TrimPrefix(daemon.URL, "http://")
	for _, args := range [][]string{{"reload"}, {"route", "--live", "a.example"}} {
		if _, errOut, code := call(append(args, "--admin", address)...); code != 1 || !strings.Contains(errOut, "set admin.token") {
			t.Errorf("%v: exit code %d: %s", args, code, errOut)
		}
	}
}
