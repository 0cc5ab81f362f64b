package child

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

var (
	//go:embed python/sitecustomize.py
	sitecustomize []byte
	//go:embed node/proxyd-exec.cjs
	preloaded []byte
)

// The files of a directory of shims.
const (
	PythonFile = "sitecustomize.py"
	NodeFile   = "proxyd-exec.cjs"
)

// Shims writes the files that make programs use the proxy of their environment, and
// returns their directory, for PYTHONPATH and NodeOptions. It stays: a Python that
// the command leaves behind, or that starts later, would connect directly without
// it. One user has one for each version of the files. Other users may read it, since
// a command may change its user, and not write in it. Until release is called,
// programs that clean up TMPDIR leave it alone.
func Shims() (dir string, release func(), err error) {
	base, err := filepath.Abs(os.TempDir())
	if err != nil {
		return "", nil, err
	}
	if dir, err = writeShims(base); err != nil {
		return "", nil, err
	}
	return dir, hold(dir), nil
}

// writeShims does so in a directory of base.
func writeShims(base string) (string, error) {
	sum := sha256.Sum256(slices.Concat([]byte(strconv.Itoa(os.Geteuid())), sitecustomize, preloaded))
	dir := filepath.Join(base, fmt.Sprintf("proxyd-exec-%x", sum[:6]))
	if strings.ContainsRune(dir, os.PathListSeparator) {
		return "", fmt.Errorf("%s has a %q, and PYTHONPATH cannot name it", dir, os.PathListSeparator)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if info, err := os.Lstat(dir); err != nil {
		return "", err
	} else if !info.IsDir() || !own(info) {
		return "", fmt.Errorf("%s is there, and is no directory that this user alone may write in", dir)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nothing in it is secret
		return "", err
	}
	for name, text := range map[string][]byte{PythonFile: sitecustomize, NodeFile: preloaded} {
		if err := replace(filepath.Join(dir, name), text); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// replace writes a file that is not there with this text already. Programs that read
// it meanwhile see all of it or nothing.
func replace(path string, text []byte) error {
	there := func() bool {
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || !own(info) || info.Mode().Perm()&0o444 != 0o444 {
			return false
		}
		old, err := os.ReadFile(path) //nolint:gosec // in a directory of this user
		return err == nil && bytes.Equal(old, text)
	}
	if there() {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what is wrong is known already
	}
	if err != nil && there() { // another process was first
		return nil
	}
	return err
}

// NodeOptions returns the part of NODE_OPTIONS that loads the shim of Node from a
// directory of shims.
func NodeOptions(dir string) string {
	return `--require "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(filepath.Join(dir, NodeFile)) + `"`
}

// JavaVariables returns the environment variables that give every JVM the proxy at
// host and port, added to what they have; hosts that noProxy lists, separated by
// commas, stay direct. JDK_JAVA_OPTIONS and _JAVA_OPTIONS override JAVA_TOOL_OPTIONS:
// where they name a proxy of their own, they get this one too, and the last one counts.
func JavaVariables(host, port, noProxy string) (set [][2]string) {
	options := javaOptions(host, port, noProxy)
	for _, name := range []string{"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"} {
		given := os.Getenv(name)
		if name == "JAVA_TOOL_OPTIONS" || strings.Contains(strings.ToLower(given), "proxy") {
			set = append(set, [2]string{name, strings.TrimSpace(given + " " + options)})
		}
	}
	return set
}

// javaOptions returns the system properties that Java's clients read.
func javaOptions(host, port, noProxy string) string {
	var direct []string
	for _, h := range strings.Split(noProxy, ",") {
		if net.ParseIP(h) != nil && strings.Contains(h, ":") {
			h = "[" + h + "]"
		}
		direct = append(direct, h)
	}
	return fmt.Sprintf("-Dhttp.proxyHost=%[1]s -Dhttp.proxyPort=%[2]s -Dhttps.proxyHost=%[1]s -Dhttps.proxyPort=%[2]s -Dhttp.nonProxyHosts=%[3]s",
		host, port, strings.Join(direct, "|"))
}
