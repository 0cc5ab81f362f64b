//go:build interop

package interop

import (
	"regexp"
	"strings"
	"testing"
)

var (
	nodeUncaught = regexp.MustCompile(`(?m)^\s*\^+\n+(\S.*)$`)
	nodeCause    = regexp.MustCompile(`(?m)^\s*(?:\[cause\]|cause): (.*)$`)
)

// nodeError returns what Node says of an uncaught error: its first line, and its
// innermost cause.
func nodeError(text string) string {
	m := nodeUncaught.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	tidy := func(line string) string {
		line = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "{"))
		return strings.TrimSuffix(strings.TrimPrefix(line, "["), "]")
	}
	line := tidy(m[1])
	if causes := nodeCause.FindAllStringSubmatch(text, -1); causes != nil {
		line += "; cause: " + tidy(causes[len(causes)-1][1])
	}
	return line
}

// What a human sees of an uncaught error of Node is its name and text, and the cause.
func TestNodeError(t *testing.T) {
	for text, want := range map[string]string{
		"node:events:505\n    throw er; // Unhandled 'error' event\n    ^\n\nError: Unexpected server response: 403\n    at x (y:1)\n\nNode.js v24.21.0\n":                                     "Error: Unexpected server response: 403",
		"a.js:1\n  throw new RequestTimeout(\n        ^\n\nRequestTimeout: binance GET timed out (10000 ms)\n    at x\n\nNode.js v24.21.0\n":                                                   "RequestTimeout: binance GET timed out (10000 ms)",
		"    ^\n\n[TypeError: fetch failed] {\n  [cause]: DOMException [Error]: cancelled.\n      at x {\n    cause: RequestAbortedError [AbortError]: Proxy response (403)\n        at y {\n": "TypeError: fetch failed; cause: RequestAbortedError [AbortError]: Proxy response (403)",
		"done\n": "",
	} {
		if got := nodeError(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
