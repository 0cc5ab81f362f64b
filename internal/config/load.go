package config

// Options change how a configuration is read.
type Options struct {
	NoSecrets bool // treat missing secrets as given (for checks in CI)
}

// Load reads the file at path ("" for the built-in defaults) and lays environ
// ("NAME=value" each) over it. A faulty configuration gives Faults, all at once.
func Load(path string, environ []string) (*Config, error) {
	return LoadWith(path, environ, Options{})
}

// LoadWith is Load with options.
func LoadWith(path string, environ []string, o Options) (*Config, error) {
	panic("written in the next commit")
}
