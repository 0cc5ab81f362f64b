//go:build unix

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Promise (routing): an upgrade hands lists from URLs over, also where they are not kept
// and their provider is down.
func TestUpgradeHandsListsOver(t *testing.T) {
	t.Parallel()
	ups, lines := socksProxies(t, 2)
	s := newListServer(t, lines(0, 2))
	svc := startService(t, strings.TrimPrefix(s.yaml(""), loopback))
	c := svc.tunnel(t, target)
	s.set(http.StatusServiceUnavailable, "")
	svc.upgrade(t, 0, "--move")
	works(c)
	before := len(ups[0].Asked())
	another := svc.tunnel(t, target)
	works(another)
	if len(ups[0].Asked()) != before+1 {
		t.Errorf("not through the first of the list:\n%s", svc.Log)
	}
	if out, code := svc.command(t, "status"); !strings.Contains(out, "LIST") || !strings.Contains(out, s.URL+"/***") {
		t.Errorf("status: exit code %d\n%s", code, out)
	}
}

// Promise (security): check asks nothing of the network but with --fetch, and shows no
// part of a list's URL that may be secret.
func TestCheckOfListsFromURLs(t *testing.T) {
	t.Parallel()
	_, lines := socksProxies(t, 2)
	s := newListServer(t, lines(0, 2))
	state := t.TempDir()
	svc := startService(t, strings.TrimPrefix(s.yaml("state_dir: "+state+"\n"), loopback))
	asked, _ := s.counts()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 0, "note: list asia: 2 proxies, kept of "},
		{[]string{"--print"}, 0, "# 2 members"},
		{[]string{"--format", "json"}, 0, `"notes": [`},
		{[]string{"--fetch"}, 0, "note: list asia: 2 proxies, fetched from " + s.URL + "/***"},
	} {
		out, code := svc.command(t, append([]string{"check"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.want) || strings.Contains(out, "geheim") {
			t.Errorf("check %v: exit code %d\n%s\nwant %s", c.args, code, out, c.want)
		}
	}
	if now, _ := s.counts(); now != asked+1 {
		t.Errorf("check has asked %d times", now-asked)
	}
	if files, _ := filepath.Glob(state + "/*"); len(files) != 1 || os.Remove(files[0]) != nil {
		t.Fatalf("kept: %v", files)
	}
	s.set(http.StatusNotFound, "")
	if out, code := svc.command(t, "check", "--strict"); code != 0 || !strings.Contains(out, "note: list asia: not known here") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if out, code := svc.command(t, "check", "--fetch"); code != 1 || !strings.Contains(out, "list asia cannot be fetched from "+s.URL+"/***: the answer is HTTP 404") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
