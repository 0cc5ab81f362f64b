//go:build packages && linux

package packages

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

var dir = os.Getenv("PACKAGES_DIR") // of check.sh; its end removes it

func TestMain(m *testing.M) {
	if dir == "" {
		fmt.Fprintln(os.Stderr, "packages: started by deploy/packages/check.sh alone")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A machine has files, processes and a host name of its own. Its network is the
// test's.
type machine struct {
	root string // its files, as the test sees them
	init int    // its first process, as the test sees it
}

// packagesDir is where a machine has the packages.
const packagesDir = "/srv/packages"

// withSystemd starts a machine with systemd as its first process.
func withSystemd(t *testing.T) *machine {
	t.Helper()
	m := unpack(t)
	var console testkit.Output
	m.start(t, cgroup(t), &console, "/lib/systemd/systemd", "--log-target=console", "--show-status=no")
	begin := time.Now()
	for state := ""; state != "running"; time.Sleep(50 * time.Millisecond) {
		out, _ := m.try("systemctl is-system-running")
		if state = strings.TrimSpace(out); time.Since(begin) > 3*testkit.Patience {
			failed, _ := m.try("systemctl --failed --plain --no-legend")
			t.Fatalf("systemd is %q after %v\n%s%s", state, time.Since(begin), failed, console.String())
		}
	}
	return m
}

// withoutSystemd starts a machine whose first process only waits for others, as in
// many containers.
func withoutSystemd(t *testing.T) *machine {
	t.Helper()
	m := unpack(t)
	m.start(t, "", &testkit.Output{}, "/bin/sh", "-c", "while sleep 1; do :; done")
	return m
}

// unpack makes the files of a machine, with the packages of both versions in them.
func unpack(t *testing.T) *machine {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "tar", "-C", root, "-xzf", os.Getenv("PACKAGES_SYSTEM"))
	to := filepath.Join(root, packagesDir)
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"deb", "rpm"} {
		for _, version := range []string{"v0.9.1", "v0.9.2"} {
			command(t, "cp", built(t, version, kind), filepath.Join(to, version+"."+kind))
		}
	}
	for file, text := range map[string]string{
		"etc/hosts": "127.0.0.1 localhost " + feedHost + "\n",
		// The answer to the question about a configuration that both sides have changed is the
		// default one.
		"etc/dpkg/dpkg.cfg.d/keep": "force-confdef\nforce-confold\n",
	} {
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing here is for the kernel, which is shared.
	for _, unit := range []string{"systemd-sysctl.service", "systemd-modules-load.service", "systemd-remount-fs.service", "dev-hugepages.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"} {
		if err := os.Symlink("/dev/null", filepath.Join(root, "etc/systemd/system", unit)); err != nil {
			t.Fatal(err)
		}
	}
	return &machine{root: root}
}

// built returns the package of a version.
func built(t *testing.T, version, kind string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, version, "*."+kind))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s has %q (%v), want one .%s", version, found, err, kind)
	}
	return found[0]
}

// start starts the first process. The end of the test kills it, and all others with
// it.
func (m *machine) start(t *testing.T, cgroup string, console *testkit.Output, program ...string) {
	t.Helper()
	script, err := filepath.Abs("machine.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, append([]string{m.root, cgroup}, program...)...)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.init = cmd.Process.Pid
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	testkit.Eventually(t, testkit.Patience, "the machine has its root directory", m.hasItsRoot)
}

// hasItsRoot reports whether the first process has the machine's root directory. Before
// that it has the one of the test, which no command of a machine may see.
func (m *machine) hasItsRoot() bool {
	root, err := os.Stat(fmt.Sprintf("/proc/%d/root/.", m.init))
	if err != nil {
		return false
	}
	own, err := os.Stat(m.root)
	return err == nil && os.SameFile(root, own)
}

// cgroup returns a new cgroup, which the end of the test removes.
func cgroup(t *testing.T) string {
	t.Helper()
	all := t.TempDir()
	if err := syscall.Mount("cgroup2", all, "cgroup2", 0, ""); err != nil {
		t.Fatalf("systemd needs cgroups of version 2, which cannot be mounted here: %v", err)
	}
	own := filepath.Join(all, fmt.Sprintf("proxyd-packages-%d", time.Now().UnixNano()))
	t.Cleanup(func() {
		testkit.Eventually(t, testkit.Patience, "the cgroup is removed", func() bool { return removeDirs(own) == nil })
		_ = syscall.Unmount(all, 0)
	})
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	return own
}

// removeDirs removes directories alone: the files of a cgroup go with it.
func removeDirs(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, d := range slices.Backward(dirs) {
		err = errors.Join(err, syscall.Rmdir(d))
	}
	return err
}

// inside returns a command that runs in the machine, as root. It panics rather than run
// one in the test's own root directory.
func (m *machine) inside(args ...string) *exec.Cmd {
	if !m.hasItsRoot() {
		panic("the machine has ended, or has not begun")
	}
	enter := []string{"--target", strconv.Itoa(m.init), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd", "--",
		"/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	return exec.Command("nsenter", append(enter, args...)...)
}

// try runs a line of sh in the machine. It returns all that was printed, and the exit
// code.
func (m *machine) try(line string) (string, int) {
	cmd := m.inside("sh", "-c", line)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // a daemon that it leaves behind may have the output open
	err := cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) && !errors.Is(err, exec.ErrWaitDelay) {
		return err.Error(), -1
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// run is try for what must succeed.
func (m *machine) run(t *testing.T, line string) string {
	t.Helper()
	out, code := m.try(line)
	if code != 0 {
		t.Fatalf("%s: exit code %d\n%s", line, code, out)
	}
	return out
}

// write writes a file that exists, as an editor that keeps mode and owner does.
func (m *machine) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read returns what is in a file, "" where there is none.
func (m *machine) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(m.root, name))
	return string(text)
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	var errOut bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errOut.String())
	}
	return string(out)
}
