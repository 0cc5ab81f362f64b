package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/daemon"
	"proxyd/internal/router"
)

// running is an admin server as a daemon has it, with the answers of a test,
// and a configuration that names it.
func running(t *testing.T, address string, change func(*admin.Options)) (bound, path string) {
	t.Helper()
	t.Setenv("PW", "geheim-7")
	ln, err := admin.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	bound = address
	if !strings.HasPrefix(address, "unix:") {
		bound = ln.Addr().String()
	}
	path = file(t, byKind+"admin: \""+bound+"\"\n")
	c, err := config.Load(path, []string{"PW=geheim-7"})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := daemon.Snapshot(c, nil, func(netip.AddrPort) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	o := admin.Options{
		Settings: func() config.Admin { return c.Admin },
		Snapshot: func() *router.Router { return snap },
		Status:   well,
	}
	change(&o)
	s, done := admin.New(o), make(chan error, 1)
	go func() { done <- s.Serve(ln) }() // ends with Close
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return bound, path
}

func well() admin.Status {
	return admin.Status{
		Version: "1.2.3", Generation: 2, PID: 42, Started: time.Now().Add(-90 * time.Minute), State: admin.StateReady,
		Config:    admin.Config{File: "/etc/proxyd/proxyd.yaml", LoadedAt: time.Now(), InForce: true},
		Listeners: []admin.Listener{{Address: "127.0.0.1:8877", Reach: "this machine only"}},
		Active:    3, Tunnels: []admin.Count{{Exchange: "binance", Kind: "websocket", Upstream: "tokyo", Tunnels: 3}},
		Upstreams: []admin.Upstream{
			{Name: "good-1", URL: "http://good.example:1", Pools: []string{"asia"}, Verdicts: []admin.Verdict{{Exchange: "okx", Kind: "http", Verdict: "ok", Since: time.Now().Add(-time.Minute)}}},
			{Name: "bad-1", URL: "http://bad.example:1", Pools: []string{"asia"}, Bad: true, State: "ejected (for 3 s, at least 12 s left): upstream_refused"},
		},
	}
}
