package admin

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"proxyd/internal/config"
)

func TestControlCharactersOfAnAnswerDoNotReachTheTerminal(t *testing.T) {
	t.Parallel()
	for give, want := range map[string]string{
		"ready\nok\t1 µs €\n":           "ready\nok\t1 µs €\n",
		"\x1b[2Jx\x7f\r\x00\u009b31m":   "?[2Jx????31m",
		`{"a":"\u001b[2J\u009b\u007f"}`: `{"a":"?[2J??"}`,
		`{"a":"\\u001b \n\t\"\u00e9"}`:  `{"a":"\\u001b \n\t\"\u00e9"}`,
		`{"a":"\\\u001b\r\b\f"}`:        `{"a":"\\????"}`,
		`\u00`:                          `\u00`,
		`\`:                             `\`,
	} {
		for name, body := range map[string]io.Reader{"at once": strings.NewReader(give), "by the byte": iotest.OneByteReader(strings.NewReader(give))} {
			if got, err := io.ReadAll(newHarmless(io.NopCloser(body))); err != nil || string(got) != want {
				t.Errorf("%q %s: %q (%v), want %q", give, name, got, err, want)
			}
		}
	}
}

// What listens at the admin address may be another's.
func TestAnswerOfAnotherServerIsHarmless(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", serverName)
		if r.URL.Path != "/api/v1/tunnels" {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, "\x1b]0;title\x07no")
			return
		}
		fmt.Fprint(w, `[{"id":"\u001b[2J","host":"`+"\u009b31m"+`"}]`)
	}))
	defer server.Close()
	c := NewClient(server.Listener.Addr().String(), config.Secret{})
	list, err := c.Tunnels(t.Context(), Filter{})
	if err != nil || len(list) != 1 || list[0].ID != "?[2J" || list[0].Host != "?31m" {
		t.Errorf("%v %+v", err, list)
	}
	if err := c.Upgrade(t.Context(), false, func(string) {}); err == nil || err.Error() != "?]0;title?no" {
		t.Errorf("%q", err)
	}
}
