//go:build image

package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// podman runs podman with runc, which asks less of a machine than crun, and returns
// its output.
func podman(args ...string) (string, error) {
	all := append([]string{"--cgroup-manager=cgroupfs", "--runtime=runc"}, args...)
	out, err := exec.Command("podman", all...).CombinedOutput() //nolint:gosec // a fixed program
	return string(out), err
}

// containerArgs returns the arguments to run the image without a network, as
// compose.yaml does. podman wants systemd to run health checks by itself.
func containerArgs(network string, more ...string) []string {
	args := []string{"run", "--network=" + network, "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
		"--no-healthcheck", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"}
	return append(args, more...)
}

// patience is how long a program may take on a busy machine.
const patience = time.Minute

const checkImage = "localhost/proxyd:check"

// A container engine runs the image read-only and without capabilities, with the
// directory of compose.yaml: a container in its network reaches it, saving the file is
// a reload, and it stops by itself.
func TestImageUnderPodman(t *testing.T) {
	if os.Getenv("IMAGE_PODMAN") == "" {
		t.Skip("podman runs no containers here")
	}
	text := read(t, "compose/proxyd/proxyd.yaml")
	conf := directory(t, map[string]string{"proxyd.yaml": text})
	run := func(args ...string) string {
		out, err := podman(args...)
		if err != nil {
			t.Fatalf("podman %q: %v\n%s", args, err, out)
		}
		return out
	}
	run(containerArgs("none", "-d", "--name=proxyd", "-v", conf+":/etc/proxyd:ro", "-e", "ASIA_PASSWORD=secret-of-asia", checkImage)...)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := podman("logs", "proxyd")
			t.Log(out)
		}
		_, _ = podman("rm", "-f", "proxyd")
	})
	check := readImage(t).Healthcheck.Test[1:]
	testkit.Eventually(t, patience, "the health check is content", func() bool {
		_, err := podman(append([]string{"exec", "proxyd"}, check...)...)
		return err == nil
	})
	if out := run(containerArgs("container:proxyd", "--rm", checkImage, "status")...); !strings.Contains(out, "tokyo-1") {
		t.Errorf("status, asked in the same network: %s", out)
	}

	saved := filepath.Join(conf, "new")
	if err := os.WriteFile(saved, []byte(strings.ReplaceAll(text, "tokyo-1", "osaka-1")), 0o644); err != nil { //nolint:gosec // for the image's user
		t.Fatal(err)
	}
	if err := os.Rename(saved, filepath.Join(conf, "proxyd.yaml")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "the saved file applies", func() bool {
		return strings.Contains(run("exec", "proxyd", "/usr/bin/proxyd", "status"), "osaka-1")
	})

	run("stop", "-t", "20", "proxyd")
	if code := strings.TrimSpace(run("inspect", "--format={{.State.ExitCode}}", "proxyd")); code != "0" {
		t.Errorf("exit code %s after SIGTERM", code)
	}
	if logs := run("logs", "proxyd"); strings.Contains(logs, "secret-of-asia") || !strings.Contains(logs, `"stopped"`) {
		t.Errorf("log: %s", logs)
	}
}
