package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/proxylist"
)

const (
	maxFileSize   = 8 << 20
	maxSecretSize = 64 << 10
	maxPEMSize    = 4 << 20
	pipeTimeout   = 2 * time.Second // for what comes through a pipe
)

var errTooLarge = errors.New("is too large")

// readAtMost reads a file of at most limit bytes. Of a longer one it returns
// the beginning and errTooLarge. A pipe without a writer does not block it.
func readAtMost(path string, limit int) ([]byte, error) {
	flags := os.O_RDONLY
	if runtime.GOOS != "windows" {
		flags |= syscall.O_NONBLOCK // opening a pipe waits for no writer
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case st.IsDir():
		return nil, errors.New("is a directory")
	case st.Mode().IsRegular():
	case f.SetReadDeadline(time.Now().Add(pipeTimeout)) != nil:
		return nil, errors.New("is no file, and cannot be read like one")
	}
	raw, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("is a pipe whose writer has not finished within %v", pipeTimeout)
	}
	if err == nil && len(raw) > limit {
		return raw[:limit], errTooLarge
	}
	return raw, err
}

// inputs are the files that a configuration was read from, as they were then. The zero
// value is none. They are not safe for concurrent use.
type inputs struct{ files map[string]input }

type input struct {
	text []byte
	err  error
}

// read is readAtMost for a file that has not been read yet.
func (in *inputs) read(path string, limit int) ([]byte, error) {
	if f, known := in.files[path]; known {
		return f.text, f.err
	}
	text, err := readAtMost(path, limit)
	if in.files == nil {
		in.files = map[string]input{}
	}
	in.files[path] = input{text, err}
	return text, err
}

// readFile reads the configuration file.
func (in *inputs) readFile(path string) ([]byte, *Error) {
	raw, err := in.read(path, maxFileSize)
	f := &Error{File: path}
	switch {
	case err == nil:
		return raw, nil
	case errors.Is(err, os.ErrNotExist):
		f.Message, f.Hint = "does not exist", "create it, or run without it for the built-in defaults"
	case errors.Is(err, os.ErrPermission):
		f.Message, f.Hint = "may not be read by this user", "chmod or chown it"
	case errors.Is(err, errTooLarge):
		f.Message, f.Hint = fmt.Sprintf("is larger than %d MiB", maxFileSize>>20), "is it the right file?"
	default:
		f.Message, f.Hint = "cannot be read: "+rootCause(err), "name a file"
	}
	return nil, f
}

// checkText checks a text before it is parsed as YAML, since the parser needs
// hundreds of bytes for each value.
func checkText(file string, raw []byte) *Error {
	if i := bytes.IndexByte(raw, 0); i >= 0 && !isUTF16(raw) {
		return &Error{File: file, Line: 1 + bytes.Count(raw[:i], []byte("\n")), Col: i - bytes.LastIndexByte(raw[:i], '\n'),
			Message: "has a zero byte", Hint: "is it a text, and was it written whole? save it as UTF-8"}
	}
	values := 1
	for i, c := range raw {
		switch c {
		case ',', '[', '{', '\n':
			values++
		case ':', '-', '?':
			if i+1 < len(raw) && (raw[i+1] == ' ' || raw[i+1] == '\t') {
				values++
			}
		}
	}
	if values > maxValues {
		return &Error{File: file, Message: fmt.Sprintf("holds more than %d values", maxValues), Hint: "is it the right file? put hosts together with a wildcard such as *.venue.example"}
	}
	return nil
}

// foreignFile recognises the proxy files of other programs and says how to convert
// them.
func foreignFile(file string, raw []byte) *Error {
	kind := proxylist.Recognise(raw)
	if kind == proxylist.Unknown {
		return nil
	}
	return &Error{
		File: file, Message: "looks like " + kind.String() + ", not like a configuration of proxyd",
		Hint: fmt.Sprintf("convert it: proxyd import --from %s %s > proxyd.yaml", string(kind), shellWord(file)),
	}
}

// shellWord returns a file's name as one word of a shell.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,~-]+$`)

// checkTruncated refuses a file that ends at a key without a value: it may be
// truncated, or still being written.
func (p *parser) checkTruncated(doc *yaml.Node, raw []byte) {
	path := ""
	var key *yaml.Node
	n := doc
	for ; len(n.Content) > 0 && n.Style&yaml.FlowStyle == 0; n = n.Content[len(n.Content)-1] { // what is in braces has an end
		switch n.Kind {
		case yaml.MappingNode:
			key = n.Content[len(n.Content)-2]
			path = join(path, strings.ToLower(key.Value))
		case yaml.SequenceNode:
			key = nil
			path = fmt.Sprintf("%s[%d]", path, len(n.Content)-1)
		}
	}
	if key == nil || n.Kind != yaml.ScalarNode || n.Style != 0 || n.Value != "" || n.ShortTag() != "!!null" {
		return
	}
	lines := bytes.SplitN(raw, []byte("\n"), key.Line+1)
	if len(lines) > key.Line && bytes.ContainsRune(lines[key.Line], '#') { // what it had is commented out
		return
	}
	at := position{file: p.file, line: key.Line, col: key.Column}
	p.errs = append(p.errs, at.error(path, "the file ends behind this key, which has no value", "is the file cut off? give the key a value, write null, or remove it"))
}

// isUTF16 reports whether a text has the mark of UTF-16, which the YAML parser
// reads.
func isUTF16(raw []byte) bool {
	return bytes.HasPrefix(raw, []byte{0xff, 0xfe}) || bytes.HasPrefix(raw, []byte{0xfe, 0xff})
}

func rootCause(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// folderOf returns the folder at which the relative paths of a configuration begin:
// that of its file, absolute. It is "", the working directory, for the built-in
// defaults and for what comes through a pipe or a descriptor.
func folderOf(config string) string {
	if config == "" {
		return ""
	}
	dir := filepath.Dir(config)
	if st, err := os.Stat(config); err == nil && !st.Mode().IsRegular() || descriptors.MatchString(dir) {
		return ""
	}
	if absolute, err := filepath.Abs(dir); err == nil {
		return absolute
	}
	return dir
}

// descriptors matches the folders of /dev/stdin and of a shell's <(command).
var descriptors = regexp.MustCompile(`^/(dev|dev/fd|proc/[^/]+/fd)$`)

// inFolder returns a path, which begins at dir if it is relative. What is no path
// stays as it is.
func inFolder(dir, path string) string {
	if dir == "" || path == "" || filepath.IsAbs(path) || os.IsPathSeparator(path[0]) || strings.Contains(path, "://") {
		return path
	}
	return filepath.Join(dir, path)
}

// filePath returns the path of a file for a message, unless it could be a
// credential in the wrong place.
func filePath(s string) string {
	if !filepath.IsAbs(s) && !strings.HasPrefix(s, ".") || strings.ContainsAny(s, "@|;, \t") || strings.Contains(s, "//") || strings.Count(s, ":") > 1 {
		return "the file"
	}
	return s
}
