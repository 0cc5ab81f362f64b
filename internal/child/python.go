package child

import (
	_ "embed"
	"os"
	"path/filepath"
)

//go:embed python/sitecustomize.py
var sitecustomize []byte

// PythonDir writes the sitecustomize.py that makes Python programs use the proxy of
// their environment, and returns its directory: private, for PYTHONPATH. The caller
// removes it.
func PythonDir() (string, error) {
	dir, err := os.MkdirTemp("", "proxyd-exec-")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "sitecustomize.py"), sitecustomize, 0o600); err != nil {
		_ = os.RemoveAll(dir) // what is wrong is known already
		return "", err
	}
	return dir, nil
}
