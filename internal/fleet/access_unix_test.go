//go:build !windows

package fleet

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// Promise (security): The user of Redis that docs/fleet.md shows can do all that a fleet
// needs, and reaches no other keys.
func TestDocumentedUserOfRedisIsEnough(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ACL SETUSER proxyd .*$`).FindString(string(text))
	r := testkit.StartRedis(t)
	if answer := r.Do(strings.ReplaceAll(line, "PASSWORD", "secret")); answer != "+OK\r\n" {
		t.Fatalf("%s: %s", line, answer)
	}
	r.Settle("test")
	url := "redis://proxyd:secret@" + r.Addr + "/0"
	members := newMembers(t, 2, url, window)
	g, err := members[0].take(t)
	if err != nil {
		t.Fatal(err)
	}
	g.Settle()
	b := newHostBoard(t, url, "b")
	a := newHostBoard(t, url, "a")
	a.Found(geoblocked(time.Minute))
	b.eventually(t, testkit.Patience, heardOfA)
	testkit.Eventually(t, testkit.Patience, "the hosts", func() bool {
		hosts, _, err := a.Hosts(t.Context())
		return err == nil && len(hosts) == 4
	})
	g.Release()
	members[1].stop()
	if log := r.Do("ACL", "LOG"); log != "*0\r\n" {
		t.Errorf("it lacks a right: %s", log)
	}
	r.Do("SET", "other", "1")
	f, err := New(Options{URL: url, Name: "other}"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.client.close() }()
	p := f.client.pipeline()
	get := p.HGet(t.Context(), "other", "x")
	if _, err := p.Exec(t.Context()); err == nil || !strings.Contains(get.Err().Error(), "NOPERM") {
		t.Errorf("it reads another key: %v", get.Err())
	}
}
