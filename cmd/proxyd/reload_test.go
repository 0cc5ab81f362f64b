package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"proxyd/internal/admin"
)

func TestReload(t *testing.T) {
	report := admin.Report{File: "p.yaml", Changes: []string{"+ pool asia", "~ exchanges.okx.http: asia → direct"}, Warnings: []string{"unlisted hosts: DIRECT (no default)"}}
	_, path := running(t, "127.0.0.1:0", func(o *admin.Options) {
		o.Reload = func(_ context.Context, dryRun bool) admin.Report {
			r := report
			r.Applied = !dryRun && len(r.Faults) == 0
			return r
		}
	})
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"applied", nil, "+ pool asia\n~ exchanges.okx.http: asia → direct\nwarning: unlisted hosts: DIRECT (no default)\np.yaml: loaded, 2 changes\n"},
		{"dry run", []string{"--dry-run"}, "+ pool asia\n~ exchanges.okx.http: asia → direct\nwarning: unlisted hosts: DIRECT (no default)\np.yaml: ok, 2 changes to come\n"},
	} {
		if out, errOut, code := call(append([]string{"reload", "-c", path}, c.args...)...); code != 0 || out != c.want {
			t.Errorf("%s: exit code %d\n%s%s", c.name, code, out, errOut)
		}
	}
	report = admin.Report{}
	if out, _, code := call("reload", "-c", path); code != 0 || out != "built-in defaults: loaded, no change\n" {
		t.Errorf("no change: exit code %d\n%s", code, out)
	}
	report = admin.Report{File: "p.yaml", Faults: []string{"p.yaml:1:1: routs: unknown key", "p.yaml:2:1: x: y"}}
	for _, flag := range []string{"--dry-run", "--dry-run=false"} {
		out, errOut, code := call("reload", "-c", path, flag)
		if code != 1 || out != "p.yaml:1:1: routs: unknown key\np.yaml:2:1: x: y\n" || errOut != "proxyd: rejected; nothing has changed\n" {
			t.Errorf("rejected: exit code %d\n%s%s", code, out, errOut)
		}
	}
	out, errOut, code := call("reload", "-c", path, "--format", "json")
	var got admin.Report
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || len(got.Faults) != 2 || got.Applied || errOut != "" {
		t.Errorf("%v, exit code %d\n%s%s", err, code, out, errOut)
	}
}

func TestUpgrade(t *testing.T) {
	_, path := running(t, "127.0.0.1:0", func(o *admin.Options) {
		o.Upgrade = func(_ context.Context, move bool, progress func(string)) error {
			progress("starting /usr/bin/proxyd")
			if move {
				progress("moved 3 of 3 tunnels")
				return nil
			}
			return errors.New("the new process did not come up")
		}
	})
	if out, errOut, code := call("upgrade", "--move", "-c", path); code != 0 || out != "starting /usr/bin/proxyd\nmoved 3 of 3 tunnels\ndone\n" {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	if out, errOut, code := call("upgrade", "-c", path); code != 1 || out != "starting /usr/bin/proxyd\n" || errOut != "proxyd: the new process did not come up\n" {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	_, path = running(t, "127.0.0.1:0", func(*admin.Options) {})
	if _, errOut, code := call("upgrade", "-c", path); code != 1 || !strings.Contains(errOut, "stop and start it") {
		t.Errorf("one that cannot: exit code %d: %s", code, errOut)
	}
}
