package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// texts writes what the program itself says: completions, man pages, licences.
func (r *release) texts(ctx context.Context) error {
	program, err := r.native(ctx)
	if err != nil {
		return err
	}
	r.progress("completions, man pages, licences")
	for shell, name := range map[string]string{"bash": "proxyd.bash", "zsh": "_proxyd", "fish": "proxyd.fish", "powershell": "proxyd.ps1"} {
		text, err := say(ctx, program, "completion", shell)
		if err != nil {
			return err
		}
		if err := write(r.path("build", "completions", name), text); err != nil {
			return err
		}
	}
	licences, err := say(ctx, program, "version", "--licenses")
	if err != nil {
		return err
	}
	if err := write(r.path("build", "LICENSES.txt"), licences); err != nil {
		return err
	}
	pages, err := r.manPages(ctx, program)
	if err != nil {
		return err
	}
	for name, page := range pages {
		if err := r.writePage(name, page); err != nil {
			return err
		}
	}
	return nil
}

// manPages returns the pages of all commands and of the configuration, by file name.
func (r *release) manPages(ctx context.Context, program string) (map[string][]byte, error) {
	commands, err := readCommands(func(args ...string) ([]byte, error) { return say(ctx, program, args...) })
	if err != nil {
		return nil, err
	}
	pages := map[string][]byte{}
	for i, c := range commands {
		pages[c.page()+".1"] = commandPage(commands, i, r.version, r.time)
	}
	manual, err := os.ReadFile(filepath.Join(r.root, "docs", "configuration.md"))
	if err != nil {
		return nil, err
	}
	example, err := os.ReadFile(filepath.Join(r.root, "configs", "proxyd.minimal.yaml"))
	if err != nil {
		return nil, err
	}
	pages["proxyd.yaml.5"], err = filePage(string(manual), string(example), r.version, r.time)
	return pages, err
}

// writePage writes a page, and beside it the same compressed, as packages want it.
func (r *release) writePage(name string, page []byte) error {
	if err := write(r.path("build", "man", name), page); err != nil {
		return err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression) // without a name and a time
	if err != nil {
		return err
	}
	if _, err := z.Write(page); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return write(r.path("build", "man", name+".gz"), b.Bytes())
}

// say returns what proxyd prints for args, whatever the environment says.
func say(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PROXYD_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return output(cmd)
}

// write writes a file, with its directory.
func write(name string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, text, 0o644)
}
