//go:build interop

package interop

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	pythonErrors = regexp.MustCompile(`(?m)^(ERROR:root:.*|[\w.]+(Error|Exception|Status|Closed)\b.*)$`)
	pythonModule = regexp.MustCompile(`^(\w+\.)+`)
)

// pythonError returns the last error of a program's output, with the cause that is
// above it where only that one has what proxyd says; "" if there is none.
func pythonError(text string) string {
	errors := pythonErrors.FindAllString(text, -1)
	if errors == nil {
		return ""
	}
	last := errors[len(errors)-1]
	ours := func(line string) bool { return strings.Contains(line, "proxyd: ") }
	i := slices.IndexFunc(errors, ours)
	if i < 0 || ours(last) {
		return last
	}
	cause := strings.TrimSuffix(errors[i], ", url='http://127.0.0.1:8877'")
	return pythonModule.ReplaceAllString(last, "") + "; cause: " + pythonModule.ReplaceAllString(cause, "")
}

// What a human sees of an uncaught error of Python is its last line, and a cause that says more.
func TestPythonError(t *testing.T) {
	for text, want := range map[string]string{
		"Traceback (most recent call last):\n  File \"a.py\", line 1\nwebsockets.exceptions.InvalidProxyStatus: proxy rejected connection: HTTP 502\n":                                                                                         "websockets.exceptions.InvalidProxyStatus: proxy rejected connection: HTTP 502",
		"a.b.C_Error: 502, message='proxyd: x: y', url='http://127.0.0.1:8877'\n\nThe above exception was the direct cause of the following exception:\n\nTraceback (most recent call last):\nccxt.base.errors.ExchangeError: binance GET u\n": "ExchangeError: binance GET u; cause: C_Error: 502, message='proxyd: x: y'",
		"OSError: 502 proxyd: x: y\n\nDuring handling …\n\nrequests.exceptions.ProxyError: OSError('502 proxyd: x: y')\n":                                                                                                                      "requests.exceptions.ProxyError: OSError('502 proxyd: x: y')",
		"done\n": "",
	} {
		if got := pythonError(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
