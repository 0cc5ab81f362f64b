//go:build interop

package interop

import (
	"regexp"
	"slices"
	"strings"
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
	return pythonModule.ReplaceAllString(last, "") + " after " + pythonModule.ReplaceAllString(cause, "")
}
