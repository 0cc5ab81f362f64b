//go:build unix

package handover

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// seen is what a child finds around it.
type seen struct {
	Args, Files []string
	Dir         string
	Listen      map[string]string
	Env         map[string]bool
}

var _ = add("looks around", func() error {
	s := seen{Args: os.Args, Listen: map[string]string{}, Env: map[string]bool{}}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		for _, f := range files {
			to, err := os.Readlink("/proc/self/fd/" + f.Name())
			if kind, _, ok := strings.Cut(to, ":["); ok {
				to = kind
			}
			if err == nil { // but for the one that read the directory
				s.Files = append(s.Files, f.Name()+" "+to)
			}
		}
	}
	p, err := Inherited(ourKeepAlive)
	if err != nil {
		return err
	}
	s.Dir, _ = os.Getwd()
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		s.Env[name] = true
	}
	for _, l := range p.Listeners.left {
		s.Listen[l.Name] = l.Addr().String()
	}
	text, err := json.Marshal(s)
	p.Failed(errors.New(string(text)))
	return err
})

// A child has the listeners, its socket and the standard files, and nothing else
// that is open here; the same arguments; and an environment without what was
// meant for this process.
func TestChildInheritsListenersOnly(t *testing.T) {
	t.Parallel()
	a, b := listening(t), listening(t)
	b.Name = "other"
	dir := t.TempDir()
	for range 20 { // things that a child must not have
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	path := filepath.Join(dir, "proxyd") // a symlink: the path is what counts
	if err := os.Symlink(os.Args[0], path); err != nil {
		t.Fatal(err)
	}
	var u Upgrader
	c := upgrade(t, &u, "looks around", StartOptions{
		Path: path, Listeners: []Listener{a, b},
		Env: []string{"LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=x", "LISTEN_PIDFDID=1", "WATCHDOG_PID=1", "WATCHDOG_USEC=9", "NOTIFY_SOCKET=/run/n"},
	})
	err := c.Ready(soon(t))
	_, text, _ := strings.Cut(err.Error(), "cannot start: ")
	var got seen
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err, text)
	}
	here, _ := os.Getwd()
	if diff := cmp.Diff(os.Args, got.Args); diff != "" || got.Dir != here {
		t.Errorf("arguments: %s in %s", diff, got.Dir)
	}
	want := map[string]string{"main": a.Addr().String(), "other": b.Addr().String()}
	if diff := cmp.Diff(want, got.Listen); diff != "" {
		t.Errorf("listeners: %s", diff)
	}
	for name, want := range map[string]bool{
		"LISTEN_PID": false, "LISTEN_FDS": false, "LISTEN_FDNAMES": false, "LISTEN_PIDFDID": false, "WATCHDOG_PID": false, variable: false,
		"WATCHDOG_USEC": true, "NOTIFY_SOCKET": true,
	} {
		if got.Env[name] != want {
			t.Errorf("%s: %v, want %v", name, got.Env[name], want)
		}
	}
	if runtime.GOOS != "linux" {
		return // there is no /proc to look into
	}
	sockets := 0
	for _, f := range got.Files {
		number, kind, _ := strings.Cut(f, " ")
		n, _ := strconv.Atoi(number)
		switch {
		case n < 3 || fromOutside[number]:
		case kind == "socket":
			if sockets++; n > 5 {
				t.Errorf("a socket too many: %s", f)
			}
		case strings.HasPrefix(kind, "anon_inode"), strings.HasPrefix(kind, "/sys/fs/cgroup"): // the runtime's own
		default:
			t.Errorf("it has %s", f)
		}
	}
	if sockets != 3 {
		t.Errorf("it has %d sockets, want 3: %q", sockets, got.Files)
	}
}

func TestProgramKeepsGivenPath(t *testing.T) {
	saved := os.Args
	defer func() { os.Args = saved }()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.Symlink(saved[0], program); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("PATH", dir)
	here, _ := os.Getwd()
	for given, want := range map[string]string{"./program": filepath.Join(here, "program"), "program": program, program: program} {
		os.Args = []string{given}
		if got, err := Program(); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", given, got, err, want)
		}
	}
	os.Args = []string{"missing"}
	if got, err := Program(); err == nil {
		t.Errorf("found %s", got)
	}
	if _, err := new(Upgrader).Start(StartOptions{Path: filepath.Join(dir, "missing")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}
