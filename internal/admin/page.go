package admin

import (
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"ago":  func(t time.Time) string { return Duration(time.Since(t)) },
	"join": func(list []string) string { return strings.Join(list, ", ") },
}).Parse(pageText))

// pagePolicy lets the page use its own style and nothing else: no script, no
// picture, no request.
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}()

// refreshSeconds is how often the page loads itself again, unless ?still.
const refreshSeconds = 5

// page serves the status to a browser on this machine: problems first.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	st := s.o.Status()
	data := struct {
		Status
		Style   template.CSS
		News    []string
		Refresh int
		Now     time.Time
	}{st, template.CSS(pageStyle), st.Problems(), refreshSeconds, time.Now()}
	if isSet(r, "still") {
		data.Refresh = 0
	}
	data.Upstreams = slices.Clone(st.Upstreams)
	slices.SortStableFunc(data.Upstreams, func(a, b Upstream) int { return rank(b) - rank(a) })
	var page strings.Builder
	if err := pageTemplate.Execute(&page, data); err != nil {
		panic(err) // an error in the template
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	_, _ = w.Write([]byte(page.String()))
}

// rank returns how bad an upstream's state is; the worst are shown first.
func rank(u Upstream) int {
	switch {
	case u.Bad:
		return 2
	case u.State != "":
		return 1
	}
	return 0
}

// Duration writes a time span for people: its two largest units.
func Duration(d time.Duration) string {
	s := int64(max(0, d) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s%86400/3600)
}
