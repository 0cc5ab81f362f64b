package main

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

	"github.com/spf13/cobra"

	"proxyd/internal/convert"
	"proxyd/internal/proxylist"
)

// importLimit is the most that import reads, in bytes.
const importLimit = 8 << 20

// mostNamed is how many variables standard error names.
const mostNamed = 100

// importOptions are the flags of import.
type importOptions struct {
	from, scheme, envFile string
	schemeSet, partial    bool
}

func importCommand() *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Convert a list of proxies, or another program's configuration, to proxyd.yaml",
		Long: `Print a proxyd.yaml that does what FILE does (- is standard input):

  list   host:port, host:port:user:password, user:password@host:port,
         user:password:host:port, URLs, or CSV with a header; one form a file
  env    variables whose names end in _PROXY, as in .env or from env
  clash  proxies, proxy-groups and rules of Clash and mihomo, and proxy-providers
         that are files in the folder of FILE
  squid  cache_peer, cache_peer_access with acls of dstdomain and dst
  gost   -F URLs of command lines, and the chains of gost's YAML or JSON

User names and passwords stand in it as ${NAME}. --env-file writes their values to
a new file with mode 600; without it, standard error has the names alone.

What cannot be carried over stands as a comment in its place, and on standard error;
hosts whose rule leads there are rejected. The exit code is then 1 unless --partial
is given. Exit code 2 for wrong usage.`,
		Example: `  proxyd import proxies.txt --scheme socks5 --env-file proxyd.env > proxyd.yaml
  env | proxyd import --from env - > proxyd.yaml
  proxyd import --partial clash.yaml > proxyd.yaml
  proxyd check                            is the result valid? (with the variables set)`,
		Args: importArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.schemeSet = cmd.Flags().Changed("scheme")
			if err := oneOf("from", o.from, importKinds()...); err != nil {
				return err
			}
			if err := oneOf("scheme", o.scheme, listSchemes...); err != nil {
				return err
			}
			if cmd.Flags().Changed("env-file") && o.envFile == "" {
				return usageError{errors.New("--env-file is empty; give it a value, or leave it out")}
			}
			return o.run(cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "auto", "`KIND` of FILE: "+strings.Join(importKinds(), ", "))
	f.StringVar(&o.scheme, "scheme", proxylist.DefaultScheme, "`SCHEME` of a list's lines without one: "+strings.Join(listSchemes, ", "))
	f.StringVar(&o.envFile, "env-file", "", "write the credentials to the new `FILE`")
	f.BoolVar(&o.partial, "partial", false, "exit with 0 although something could not be carried over")
	return cmd
}

// importKinds are what --from takes.
func importKinds() []string {
	list := []string{"auto"}
	for _, k := range proxylist.Kinds {
		list = append(list, string(k))
	}
	return list
}

func importArgs(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("import takes one FILE, or - for standard input, and got %d", len(args))}
	}
	return nil
}

// run converts a file, and writes the result.
func (o *importOptions) run(cmd *cobra.Command, path string) error {
	source, err := o.read(cmd.InOrStdin(), path)
	if err != nil {
		return err
	}
	result, err := convert.Convert(source)
	if err != nil {
		return prefixed(source.Name, err)
	}
	errOut := cmd.ErrOrStderr()
	for _, l := range result.Losses {
		at := source.Name
		if l.Line > 0 {
			at = fmt.Sprintf("%s:%d", at, l.Line)
		}
		fmt.Fprintf(errOut, "%s: not carried over: %s\n", at, l.Text)
	}
	for _, n := range result.Notes {
		fmt.Fprintf(errOut, "note: %s\n", n)
	}
	if err := o.credentials(errOut, result.Variables); err != nil {
		return err
	}
	if _, err := io.WriteString(cmd.OutOrStdout(), result.YAML); err != nil {
		return err
	}
	if len(result.Losses) > 0 && !o.partial {
		fmt.Fprintln(errOut, "proxyd: not all of it could be carried over; see the comments, and add --partial if that is enough")
		return errReported
	}
	return nil
}

// prefixed puts the name of the source before each line of an error.
func prefixed(name string, err error) error {
	var lines []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		lines = append(lines, fmt.Errorf("%s: %s", name, line))
	}
	return errors.Join(lines...)
}

// read returns the source; its name has no folder.
func (o *importOptions) read(stdin io.Reader, path string) (s convert.Source, err error) {
	from := stdin
	s.Name = "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return s, err
		}
		defer f.Close()
		from, s.Name = f, filepath.Base(path)
		s.Read = func(name string) ([]byte, error) { return readBeside(filepath.Dir(path), name) }
	}
	if o.from != "auto" {
		s.Kind = proxylist.Kind(o.from)
	}
	if o.schemeSet {
		s.Scheme = o.scheme
	}
	if s.Text, err = readAll(from); err != nil {
		return s, fmt.Errorf("%s: %w", s.Name, err)
	}
	return s, nil
}

// readBeside returns the text of a file in a folder or below it.
func readBeside(dir, name string) ([]byte, error) {
	f, err := os.OpenInRoot(dir, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("is no file"))
	}
	return readAll(f)
}

// readAll returns what a file has, which is at most importLimit.
func readAll(f io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(f, importLimit+1))
	if err == nil && len(text) > importLimit {
		err = fmt.Errorf("is larger than %d MiB", importLimit>>20)
	}
	return text, err
}

// credentials writes the variables to the file for them, or their names to errOut.
func (o *importOptions) credentials(errOut io.Writer, list []convert.Variable) error {
	if len(list) == 0 {
		if o.envFile != "" {
			fmt.Fprintf(errOut, "note: there are no credentials: %s is not written\n", o.envFile)
		}
		return nil
	}
	if o.envFile == "" {
		var names []string
		for i, v := range list {
			if i == mostNamed {
				names = append(names, fmt.Sprintf("and %d more, which stand in the YAML as ${NAME}", len(list)-i))
				break
			}
			names = append(names, v.Name)
		}
		fmt.Fprintf(errOut, "note: set these variables before you start proxyd, or run this again with --env-file FILE: %s\n", strings.Join(names, ", "))
		return nil
	}
	var text bytes.Buffer
	text.WriteString("# Credentials of proxyd.yaml. In a shell: set -a; . ./FILE; set +a   In systemd: EnvironmentFile=\n")
	for _, v := range list {
		fmt.Fprintf(&text, "%s=%s\n", v.Name, envQuote(v.Value.Reveal()))
	}
	return writeNew(o.envFile, text.Bytes())
}

var plainValue = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]*$`)

// envQuote returns a value as a shell and systemd read it.
func envQuote(s string) string {
	if plainValue.MatchString(s) {
		return s
	}
	if !strings.Contains(s, "'") {
		return "'" + s + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"` // systemd reads '\'' as two quotes
}

// writeNew writes a file that only its owner may read. One that is there is never
// overwritten; if it holds the same already, that is fine.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		st, statErr := os.Lstat(path)
		have, readErr := os.ReadFile(path)
		if statErr == nil && readErr == nil && bytes.Equal(have, text) && st.Mode().IsRegular() && (runtime.GOOS == "windows" || st.Mode().Perm()&0o077 == 0) {
			return nil
		}
		return fmt.Errorf("%s exists, and is not overwritten: name another file, or remove it", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
