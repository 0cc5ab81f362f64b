package isolate

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The error says which rule of the system forbids the namespaces, and what to allow.
func TestForbiddenErrorSaysWhatToAllow(t *testing.T) {
	t.Parallel()
	const filtered = "Name:\tproxyd\nSeccomp:\t2\nSeccomp_filters:\t1\n"
	for name, tt := range map[string]struct {
		stage stage
		errno syscall.Errno
		files map[string]string
		says  []string
	}{
		"AppArmor, first netlink call": {stageLoopback, syscall.EPERM, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
			[]string{"bringing up the loopback interface", "AppArmor", "/etc/apparmor.d/proxyd", "proxyd nft"}},
		"AppArmor, first netlink call, another error": {stageLoopback, syscall.EACCES, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, []string{"AppArmor"}},
		"seccomp of a container":                      {stageNamespaces, syscall.EPERM, map[string]string{"proc/self/status": filtered}, []string{"seccomp", "--security-opt", "proxyd nft"}},
		"root without capabilities":                   {stageNamespaces, syscall.EPERM, map[string]string{"proc/self/status": "Uid:\t0\t0\t0\t0\nCapEff:\t0000000000000000\n"}, []string{"CAP_SETFCAP", "another user"}},
		"root without one of them":                    {stageNamespaces, syscall.EPERM, map[string]string{"proc/self/status": "Uid:\t0\t0\t0\t0\nCapEff:\t00000000000000c0\n"}, []string{"CAP_SETFCAP"}},
		"root with them":                              {stageNamespaces, syscall.EPERM, map[string]string{"proc/self/status": "Uid:\t0\t0\t0\t0\nCapEff:\t00000000800000c0\nSeccomp:\t2\n"}, []string{"seccomp"}},
		"limit of 0":                                  {stageNamespaces, syscall.ENOSPC, map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}, []string{"user.max_user_namespaces = 0", "sysctl user.max_user_namespaces"}},
		"limit of 0, of networks":                     {stageNamespaces, syscall.ENOSPC, map[string]string{"proc/sys/user/max_user_namespaces": "9999\n", "proc/sys/user/max_net_namespaces": "0\n"}, []string{"user.max_net_namespaces = 0", "sysctl user.max_net_namespaces=16384"}},
		"limit used up":                               {stageNamespaces, syscall.ENOSPC, map[string]string{"proc/sys/user/max_user_namespaces": "9999\n"}, []string{"used up", "user.max_net_namespaces"}},
		"Debian's switch":                             {stageNamespaces, syscall.EPERM, map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, []string{"kernel.unprivileged_userns_clone=1"}},
		"no user namespaces":                          {stageNamespaces, syscall.EINVAL, nil, []string{"CONFIG_USER_NS"}},
		"another rule":                                {stageMounts, syscall.EACCES, nil, []string{"SELinux", "chroot"}},
		"no nftables":                                 {stageRules, syscall.ENOENT, nil, []string{"modprobe"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for file, text := range tt.files {
				at := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := explain(newStageError(tt.stage, os.NewSyscallError("call", tt.errno)), root)
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %v", want, err)
				}
			}
		})
	}
}

// Where the system forbids the namespaces, the command is not run.
func TestCommandDoesNotRunWithoutNamespaces(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ filter, says string }{
		"no user namespaces": {"clone", "making user, network and mount namespaces was refused"},
		"no netlink":         {"netlink", "bringing up the loopback interface was refused"},
		"no mounts":          {"mount", "mounting a private resolv.conf was refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, u user) {
				got := shell(t, u, Options{}, "echo ran", filtered(tt.filter))
				if got.code != 98 || got.out != "" || !strings.Contains(got.err, tt.says) || !strings.Contains(got.err, "a seccomp filter") {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}
