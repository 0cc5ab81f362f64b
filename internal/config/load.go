package config

import (
	"cmp"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"proxyd/internal/config/internal/raw"
	"proxyd/internal/target"
)

// Options change how a configuration is read.
type Options struct {
	NoSecrets   bool   // treat missing secrets as given (for checks in CI)
	SkipUnknown bool   // leave out keys that this version does not know
	System      string // where it is to run, as GOOS has it; "" is here

	// Lists returns a list from a URL, nil if it is not known: the pool then has no
	// members from it. It may be nil.
	Lists func(*ListSource) *ListText
}

// Load reads the file at path ("" for the built-in defaults) and lays environ
// ("NAME=value" each) over it. If anything is wrong, the error is an Errors
// with everything that is. It is safe for concurrent use.
func Load(path string, environ []string) (*Config, error) {
	return LoadWith(path, environ, Options{})
}

// LoadWith is Load with options.
func LoadWith(path string, environ []string, o Options) (*Config, error) {
	return loadFrom(path, environ, o, &inputs{})
}

// WithLists returns the configuration that is made of the same texts of files and
// variables as c, and of other texts of its lists from URLs (see Options.Lists).
func (c *Config) WithLists(lists func(*ListSource) *ListText) (*Config, error) {
	if c.again == nil {
		return c, nil
	}
	return c.again(lists)
}

func loadFrom(path string, environ []string, o Options, in *inputs) (*Config, error) {
	root, s, errs := readTree(path, environ, "", in)
	if root == nil {
		return nil, errs
	}
	shaped, _ := s.value(root, fileType, "").(map[string]any)
	errs = append(errs, s.errs...)
	if o.SkipUnknown {
		errs = slices.DeleteFunc(errs, isUnknown)
	}
	if len(errs) > maxErrors {
		return nil, sorted(errs)
	}
	s.errs = errs
	file, err := decode(shaped)
	if err != nil {
		// The shaper lets nothing through that viper refuses; should it, say so.
		errs = append(errs, Error{File: path, Message: err.Error(), Hint: "fix the value"})
		return nil, sorted(errs)
	}
	b := newBuilder(path, environ, o, s, root)
	b.inputs = in
	b.resolveKeys(reflect.ValueOf(file))
	c := b.config(file)
	errs = append(errs, b.errs...)
	if len(errs) > 0 {
		return nil, sorted(errs)
	}
	c.Warnings = sorted(slices.Concat(s.warnings, c.Warnings, b.warnings))
	if len(c.Sources()) > 0 {
		c.again = func(lists func(*ListSource) *ListText) (*Config, error) {
			o.Lists = lists
			return loadFrom(path, environ, o, in)
		}
	}
	return c, nil
}

// Fingerprint returns a word that is the same for the same texts of File, of the lists
// of its pools and of CatalogFile, "" for the built-in defaults. Files of secrets do not
// count. It is slow on purpose, some 10 ms: whoever sees it cannot try out what
// passwords the texts have.
func (c *Config) Fingerprint() string {
	if c.File == "" {
		return ""
	}
	return slowly(hex.EncodeToString(c.Sum[:]))
}

// EnvironmentFingerprint returns a word that is the same for the same variables of a
// configuration, those of admin and log left out; "" if there are none. It is as slow as
// Config.Fingerprint.
func EnvironmentFingerprint(environ []string) string {
	vars, _ := (&layer{}).variables(environ)
	var list []string
	for name, value := range vars {
		key, ok := strings.CutPrefix(name, envPrefix)
		if ok && name != "PROXYD_CONFIG" && !serviceLink.MatchString(name) && !strings.HasPrefix(key, "ADMIN") && !strings.HasPrefix(key, "LOG") {
			list = append(list, strconv.Quote(name+"="+value))
		}
	}
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return slowly(strings.Join(list, " "))
}

// slowly returns a word that is the same for the same text. It takes so long that the
// text cannot be found by trying out guesses.
func slowly(text string) string {
	const rounds = 1 << 15
	key, err := pbkdf2.Key(sha256.New, text, []byte("proxyd configuration"), rounds, 16)
	if err != nil { // only where the build forbids such a short key
		return ""
	}
	return hex.EncodeToString(key)
}

// RealPath returns the absolute path of File without symbolic links, "" for the
// built-in defaults or where the file is gone.
func (c *Config) RealPath() string {
	if c.File == "" {
		return ""
	}
	path, err := filepath.Abs(c.File)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return ""
	}
	return path
}

func isUnknown(e Error) bool { return e.Message == unknownKey }

// readTree reads the file and lays the environment over it. The tree is nil
// when it cannot be used. If only is not "", that one key is read even from a
// file that is not valid YAML.
func readTree(path string, environ []string, only string, in *inputs) (*node, *shaper, Errors) {
	s := &shaper{at: map[string]position{}}
	root := &node{kind: mapping}
	var errs Errors
	if path != "" {
		text, bad := in.readFile(path)
		if bad != nil {
			return nil, nil, Errors{*bad}
		}
		s.sum = sha256.Sum256(text)
		root, errs = parse(path, text)
		if only != "" && (root == nil || root.kind != mapping) {
			root, errs = salvage(path, text, only, errs)
		}
		if root == nil || root.kind != mapping {
			return nil, nil, sorted(errs)
		}
		var twice Errors
		s.inBlock, twice = unwrap(root)
		errs = append(errs, twice...)
		if len(root.keys) == 0 && len(errs) == 0 {
			errs = Errors{{File: path, Message: "is empty", Hint: "write at least one key, such as default: direct"}}
		}
	}
	more, warnings := overlayEnvironment(root, environ)
	s.warnings = warnings
	return root, s, append(errs, more...)
}

// decode has viper decode the shaped maps into the raw types, strictly. The
// instance is a fresh one each time: viper's own file and environment handling
// loses keys.
func decode(shaped map[string]any) (*raw.File, error) {
	v := viper.NewWithOptions(viper.KeyDelimiter("\x1f"))
	if err := v.MergeConfigMap(shaped); err != nil {
		return nil, err
	}
	var file raw.File
	err := v.UnmarshalExact(&file, func(d *mapstructure.DecoderConfig) {
		d.WeaklyTypedInput = false
		d.DecodeHook = nil
	})
	if err != nil {
		return nil, err
	}
	return &file, nil
}

// sorted returns the errors in file order, those of the environment last.
func sorted(f Errors) Errors {
	slices.SortStableFunc(f, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Var, b.Var), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	f = slices.Compact(f)
	if n := len(f) - maxErrors; n > 0 {
		f = append(f[:maxErrors:maxErrors], Error{File: f[0].File, Message: fmt.Sprintf("and %d more like these, or unlike them", n), Hint: "fix these first"})
	}
	return f
}

// SystemFile is the configuration file of the whole system.
const SystemFile = "/etc/proxyd/proxyd.yaml"

// FindFile returns the file that a command reads: the flag, $PROXYD_CONFIG,
// ./proxyd.yaml, /etc/proxyd/proxyd.yaml, or "" for the built-in defaults.
// named reports whether the user named it, so that it must exist.
func FindFile(flag string, environ []string) (path string, named bool) {
	if flag != "" {
		return flag, true
	}
	for _, kv := range environ {
		if name, v, ok := strings.Cut(kv, "="); ok && v != "" && strings.EqualFold(name, "PROXYD_CONFIG") {
			return v, true
		}
	}
	for _, p := range []string{"proxyd.yaml", SystemFile} {
		if _, err := os.Stat(p); err == nil {
			return p, false
		}
	}
	return "", false
}

// orDefault returns what p points at, or the default.
func orDefault[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}

// harmless is text that holds no credential, whatever it was meant to be: a
// word, a pattern of names, an address, a CIDR, a rate, a socket.
var harmless = regexp.MustCompile(`^(unix:[A-Za-z0-9._/-]*|[\pL0-9._*+~-]*(:[0-9]{0,6})?(/[0-9]{1,7}[a-z]{0,3})?)$`)

// quoted returns text in quotes for a message about it, or "the text" where it
// could hold a credential. What stands where a URL may stand is never quoted.
func quoted(s string) string {
	if _, err := target.ParsePattern(s); err != nil && !harmless.MatchString(s) || len(s) > 60 {
		return "the text"
	}
	return strconv.Quote(s)
}
