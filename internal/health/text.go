package health

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"proxyd/internal/printable"
)

// title is the title of an HTML page.
var title = regexp.MustCompile(`(?is)<title[^>]*>(.+?)</title>`)

// excerpt returns what an answer's body says, for people: the message of JSON, the
// title of a page, or its beginning; "" or led by a colon.
func excerpt(h http.Header, body []byte) string {
	var said map[string]any
	text := ""
	if json.Unmarshal(body, &said) == nil {
		for _, key := range []string{"msg", "message", "retMsg", "error", "error_message", "detail"} {
			if s, ok := said[key].(string); ok && s != "" {
				text = s
				break
			}
		}
	}
	if m := title.FindSubmatch(body); text == "" && m != nil {
		text = string(m[1])
	}
	if text == "" && !strings.Contains(h.Get("Content-Type"), "html") {
		text = string(body[:min(len(body), 200)])
	}
	if text = clean(text, 120); text == "" {
		return ""
	}
	return ": " + text
}

// clean returns a far end's text fit for a line of ours: printable ASCII, single
// spaces, at most limit bytes.
func clean(s string, limit int) string {
	return printable.Clean(strings.Join(strings.Fields(s), " "), limit)
}
