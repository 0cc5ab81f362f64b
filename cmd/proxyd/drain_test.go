package main

import (
	"errors"
	"strings"
	"testing"

	"proxyd/internal/admin"
)

func TestDrainAndResume(t *testing.T) {
	_, path := running(t, "127.0.0.1:0", func(o *admin.Options) {
		o.Drain = func(upstream, _ string, _ bool) error {
			if upstream != "tokyo-1" {
				return errors.New("there is no upstream " + upstream)
			}
			return nil
		}
	})
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"drain", "tokyo-1"}, 0, "tokyo-1: no new connections; tunnels stay\n"},
		{[]string{"drain", "tokyo-1", "okx"}, 0, "tokyo-1 for okx: no new connections; tunnels stay\n"},
		{[]string{"resume", "tokyo-1", "okx"}, 0, "tokyo-1 for okx: no longer drained\n"},
		{[]string{"drain", "tokio-1"}, 1, "proxyd: there is no upstream tokio-1\n"},
		{[]string{"drain"}, 2, "Run 'proxyd"},
		{[]string{"resume", "a", "b", "c"}, 2, "Run 'proxyd"},
	} {
		if out, errOut, code := call(append(c.args, "-c", path)...); code != c.code || !strings.Contains(out+errOut, c.says) {
			t.Errorf("%v: exit code %d\n%s%s", c.args, code, out, errOut)
		}
	}
}
