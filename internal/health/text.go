package health

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// title is the title of an HTML page.
var title = regexp.MustCompile(`(?is)<title[^>]*>(.{1,300}?)</title>`)

// excerpt is what an answer's body says, for people: the message of JSON, the
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

// clean makes a far end's text fit for a line of ours: printable ASCII, single
// spaces, at most limit bytes.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return s
}

// seconds is a duration for people: "1.5 s", "40 ms".
func seconds(d time.Duration) string {
	if d < 95*time.Millisecond {
		return strconv.FormatInt(d.Round(time.Millisecond).Milliseconds(), 10) + " ms"
	}
	return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
}
