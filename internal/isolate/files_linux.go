package isolate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// resolvConf is the resolv.conf of the namespace. Queries of any address go to the
// resolver; what matters is what is not here: no search, whose names the resolver
// would answer too, and no more than one dot to be a whole name. The domain has no
// names: without one, resolvers take that of the host's name.
const resolvConf = "nameserver 127.0.0.1\ndomain invalid\noptions ndots:1\n"

// Directories whose sockets resolve names outside of the namespace.
var (
	nscd     = []string{"/run/nscd", "/var/run/nscd"}
	resolved = "/run/systemd/resolve"
)

// covered are directories that a file system may lie over while the files are made.
// None of them holds a file that is replaced.
var covered = []string{"/tmp", "/dev", "/sys", "/usr", "/mnt"}

// privateFiles lays a resolv.conf and an nsswitch.conf of ours over the machine's, in
// this mount namespace only, and hides the sockets of other resolvers.
func privateFiles() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mount / as slave: %w", err)
	}
	work, err := cover()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Unmount(work, unix.MNT_DETACH) }() // what is bound from it stays
	made := []struct{ name, text string }{{"resolv.conf", resolvConf}, {"resolved/resolv.conf", resolvConf}, {"resolved/stub-resolv.conf", resolvConf}}
	if text, err := os.ReadFile("/etc/nsswitch.conf"); err == nil {
		made = append(made, struct{ name, text string }{"nsswitch.conf", hostsByDNS(string(text))})
	}
	for _, dir := range []string{"empty", "resolved"} {
		if err := os.Mkdir(filepath.Join(work, dir), 0o755); err != nil { //nolint:gosec // read by the command
			return err
		}
	}
	for _, f := range made {
		if err := os.WriteFile(filepath.Join(work, f.name), []byte(f.text), 0o644); err != nil { //nolint:gosec // read by the command
			return err
		}
	}
	// A symlink is covered itself where the kernel lets us: what it leads to may not
	// be there, or be replaced meanwhile.
	for _, name := range []string{"resolv.conf", "nsswitch.conf"} {
		if err := bind(filepath.Join(work, name), "/etc/"+name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("mount on /etc/%s: %w", name, err)
		}
	}
	if err := bindDir(filepath.Join(work, "resolved"), resolved); err != nil {
		return err
	}
	for _, dir := range nscd {
		if err := bindDir(filepath.Join(work, "empty"), dir); err != nil {
			return err
		}
	}
	return os.NewSyscallError("mount", unix.Mount("", work, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")) // the file system, and so what is bound
}

// openRoot returns the root directory of this mount namespace, by which a process
// outside of it reads files as the command sees them.
func openRoot() (*os.File, error) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	return os.NewFile(uintptr(fd), "root"), nil
}

// visibleResolvConf returns the resolv.conf that the command sees, "" if there is none.
// It is not ours where the host has none, or has replaced its own by another file: what
// is mounted on a file goes with it.
func visibleResolvConf(root *os.File) string {
	const name, flags = "etc/resolv.conf", unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil { // a kernel before 5.6, or there is none
		fd, err = unix.Openat(int(root.Fd()), name, flags, 0)
	}
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
	if err != nil {
		return ""
	}
	return string(b)
}

// maxResolvConf is how much of a resolv.conf is read.
const maxResolvConf = 64 << 10

// cover mounts an empty file system over the first directory that takes one.
func cover() (string, error) {
	var failed error
	for _, dir := range covered {
		err := unix.Mount("proxyd", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=1m")
		if err == nil {
			return dir, nil
		}
		failed = errors.Join(failed, fmt.Errorf("mount a tmpfs on %s: %w", dir, err))
	}
	return "", failed
}

// bind mounts a file on another one, or on a symlink. The error is fs.ErrNotExist
// where there is nothing to hide.
func bind(from, to string) error {
	fd, err := unix.Open(to, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Mount(from, fmt.Sprintf("/proc/self/fd/%d", fd), "", unix.MS_BIND, "")
	if err == nil {
		return nil
	}
	return unix.Mount(from, to, "", unix.MS_BIND, "") // no /proc, or no mounts on symlinks
}

// bindDir mounts a directory on another one, if that is there.
func bindDir(from, to string) error {
	real, err := filepath.EvalSymlinks(to)
	if err != nil { // nothing to hide
		return nil //nolint:nilerr // as said
	}
	if err := unix.Mount(from, real, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount on %s: %w", real, err)
	}
	return nil
}

// hostsByDNS returns an nsswitch.conf in which names are looked up in the hosts file
// and by queries, and by no other program of the machine. What answers for the host's
// own name stays: it asks the kernel alone.
func hostsByDNS(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		database, services, ok := strings.Cut(strings.TrimSpace(l), ":")
		if !ok || strings.TrimSpace(database) != "hosts" {
			continue
		}
		lines[i] = "hosts: files dns"
		if services, _, _ = strings.Cut(services, "#"); slices.Contains(strings.Fields(services), "myhostname") {
			lines[i] = "hosts: files myhostname dns"
		}
	}
	return strings.Join(lines, "\n")
}
