package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/printable"
)

// A ban of three days does not read as if it were over.
func TestClock(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.Local)
	for at, want := range map[time.Time]string{now.Add(time.Hour): "13:00:00", now.AddDate(0, 0, 3): "2026-05-07 12:00:00"} {
		if got := printable.Clock(at, now); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// ${ is literal in a list, and a reference in a configuration. That the file at
// hand has outbounds of its own does not matter to a list.
func TestPassedProxiesLoadAsPool(t *testing.T) {
	c, err := config.Load(file(t, "default: http://own.example:1\nroutes: [{hosts: [b.example], use: \"http://own.example:2\"}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	o := probeOptions{config: c, list: "-"}
	if err := o.readList(context.Background(), strings.NewReader("http://u:${PW}@a.example:1\n")); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	o.writePassed(&out, nil)
	again, err := config.Load(file(t, "pools:\n  good:\n    "+strings.ReplaceAll(out.String(), "\n", "\n    ")+"\n"), nil)
	if err != nil || again.Pools[0].Proxies[0].URL.Password.Reveal() != "${PW}" {
		t.Errorf("%v\n%s", err, out.String())
	}
}
