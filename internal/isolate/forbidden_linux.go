package isolate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ForbiddenError is a system that does not allow the namespaces.
type ForbiddenError struct {
	What  string // which step was refused, and by what
	Allow string // what to allow
	err   error
}

// Error returns what was refused, and what to allow.
func (e *ForbiddenError) Error() string {
	return e.What + "; " + e.Allow + "; in a pod, or for a service, proxyd nft redirects connections without namespaces"
}

// Unwrap returns the cause.
func (e *ForbiddenError) Unwrap() error { return e.err }

// explain returns a failed step with what refuses it, as far as the files of /proc
// below root tell, and what to allow.
func explain(failed *stageError, root string) error {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(text))
	}
	refused := func(by, allow string) error {
		return &ForbiddenError{fmt.Sprintf("%s was refused (%s) by %s", failed.Stage, failed.Text, by), allow, failed}
	}
	denied := errors.Is(failed, fs.ErrPermission)
	full := errors.Is(failed, syscall.ENOSPC) || errors.Is(failed, syscall.EUSERS)
	status, limit := read("proc/self/status"), ""
	for _, kind := range []string{"mnt", "net", "user"} {
		if read("proc/sys/user/max_"+kind+"_namespaces") == "0" {
			limit = "user.max_" + kind + "_namespaces"
		}
	}
	switch {
	case failed.Stage == stageCommand || failed.Stage == stageSockets:
		return failed
	case failed.Stage == stageNamespaces && (full || limit != ""):
		return refused(limitOrUsedUp(limit))
	case failed.Stage == stageNamespaces && errors.Is(failed, syscall.EINVAL):
		return refused("the kernel, which has no user namespaces", "use a kernel with CONFIG_USER_NS")
	case failed.Stage == stageNamespaces && denied && read("proc/sys/kernel/unprivileged_userns_clone") == "0":
		return refused("kernel.unprivileged_userns_clone", "set it: sysctl kernel.unprivileged_userns_clone=1; or run this command as root")
	case denied && read("proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		return refused("AppArmor, which lets unprivileged programs make user namespaces and gives them no rights in them",
			"allow it for proxyd, by a profile /etc/apparmor.d/proxyd: abi <abi/4.0>, profile proxyd /usr/bin/proxyd flags=(unconfined) { userns, }; or for all: sysctl kernel.apparmor_restrict_unprivileged_userns=0; or run this command as root")
	case failed.Stage == stageNamespaces && denied && powerless(status):
		return refused("the kernel, since root is without CAP_SETUID, CAP_SETGID or CAP_SETFCAP here", "run this command as another user, or give root these capabilities")
	case denied && seccomp(status):
		return refused("a seccomp filter, as container engines set", "run the container with a profile that allows clone and unshare with namespaces and mount, for instance docker run --security-opt seccomp=unconfined")
	case denied:
		return refused("the system", "look at the rules of its security module (SELinux, AppArmor: dmesg, or ausearch -m avc), and that this is no chroot")
	case failed.Stage == stageRules:
		return &ForbiddenError{fmt.Sprintf("%s failed (%s)", failed.Stage, failed.Text), "the kernel needs nf_tables with nft_redir and nft_reject_inet: modprobe -a nf_tables nft_redir nft_reject_inet nft_ct", failed}
	}
	return failed
}

// seccomp reports whether a process's status shows a filter of system calls.
func seccomp(status string) bool { return field(status, "Seccomp") == "2" }

// powerless reports whether a process's status shows root that may not map itself.
func powerless(status string) bool {
	have, err := strconv.ParseUint(field(status, "CapEff"), 16, 64)
	return err == nil && strings.HasPrefix(field(status, "Uid"), "0\t") && have&toMapAll != toMapAll
}

// field returns the value of a line of a process's status, "" if there is none.
func field(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// limitOrUsedUp returns what a limit of 0 forbids, or what one that is used up does, and
// what to allow.
func limitOrUsedUp(limit string) (by, allow string) {
	if limit == "" {
		return "a limit of namespaces that is used up, here or outside of this container", "end programs that have namespaces, or raise user.max_user_namespaces, user.max_net_namespaces and user.max_mnt_namespaces"
	}
	return "the limit " + limit + " = 0", "raise it: sysctl " + limit + "=16384"
}
