//go:build unix

package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/config"
)

// What is no plain file is read like one or refused, and blocks nothing.
func TestLoadSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	pipe := func(name string) string {
		path := filepath.Join(dir, name)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	silent := func(name, text string) string { // it is open for writing, and nothing more is written
		path := pipe(name)
		w, err := os.OpenFile(path, os.O_RDWR, 0) // waits for no reader
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Close() })
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		return path
	}
	r, w, err := os.Pipe() // as a shell does for <(command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if _, err := w.WriteString("default: direct\n"); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	whole := fmt.Sprintf("/dev/fd/%d", r.Fd())
	noWriter := pipe("noWriter")
	for name, c := range map[string]struct{ path, want string }{
		"a directory":                     {dir, "cannot be read: is a directory; name a file"},
		"a pipe without a writer":         {noWriter, "is empty"},
		"a pipe that stays silent":        {silent("silent", ""), "cannot be read: is a pipe whose writer has not finished within 2s"},
		"a pipe that stays half":          {silent("half", "default: direct\n"), "cannot be read: is a pipe whose writer has not finished within 2s"},
		"a pipe with a configuration":     {whole, ""},
		"a device without an end":         {"/dev/zero", "is no file, and cannot be read like one"},
		"a device without anything":       {"/dev/null", "is no file"},
		"a link that leads nowhere":       {link(t, dir, "nowhere", filepath.Join(dir, "none")), "does not exist"},
		"a link to itself":                {link(t, dir, "itself", filepath.Join(dir, "itself")), "too many levels of symbolic links"},
		"a secret from a pipe":            {write(t, "admin: {token: \"${file:"+noWriter+"}\"}\n"), " is empty; write the secret into it"},
		"a secret from a silent pipe":     {write(t, "admin: {token: \"${file:"+silent("silent secret", "")+"}\"}\n"), "whose writer has not finished"},
		"a secret that is a large file":   {write(t, "admin: {token: \"${file:"+write(t, strings.Repeat("x", 1<<17))+"}\"}\n"), "is too large"},
		"a secret without an end":         {write(t, "admin: {token: \"${file:/dev/zero}\"}\n"), "/dev/zero cannot be read: is no file"},
		"certificates from a silent pipe": {write(t, "default: {url: \"https://h.example:1\", tls: {ca_file: "+silent("ca", "")+"}}\n"), "whose writer has not finished"},
		"a certificate without an end":    {write(t, "listen: {address: \"127.0.0.1:1\", tls: {cert_file: /dev/zero, key_file: /dev/zero}}\n"), "listen.tls.cert_file: /dev/zero cannot be read: is no file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, err := config.Load(c.path, nil)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	if got := config.NamedFiles(noWriter); len(got) > 0 {
		t.Errorf("a pipe names %q", got)
	}
}

func link(t *testing.T, dir, name, to string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadUnreadableFile(t *testing.T) {
	path := write(t, "default: direct\n")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	bound, loaded := make(chan bool, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		bound <- obeysModes(t)
		_, err := config.Load(path, nil)
		loaded <- err
	}()
	want := path + ": may not be read by this user; chmod or chown it"
	if !<-bound {
		want = "<nil>"
	}
	if got := fmt.Sprint(<-loaded); got != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
